"""A clone gets the environment of its worker, if that is the commit's."""

import sys
from pathlib import Path

import pytest
import yaml
from small_project import ROOT, dvc

from flows.settle import settle
from kmunet.errors import ConfigError, ServiceError


@pytest.fixture
def clone(project, monkeypatch):
    """A checkout without an environment, and a home to keep a cache in."""
    (project / ".venv").unlink()
    for name in ("pyproject.toml", "constraints.txt"):
        (project / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.parent / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    profiles = {"team": {"dvc_remote": "s3://bucket/kmunet"}, "local": {}}
    file = project.parent / "profiles.yaml"
    file.write_text(yaml.safe_dump(profiles))
    monkeypatch.setenv("KMUNET_PROFILES", str(file))
    return project


def test_a_clone_is_made_ready(clone, monkeypatch):
    monkeypatch.setenv("KMUNET_PROFILE", "team")
    said = []
    settle(said.append)
    assert (clone / ".venv").readlink() == Path(sys.prefix).resolve()
    assert dvc(clone, "remote", "default").strip() == "kmunet-profile"
    cache = clone.parent / "cache" / "kmunet" / "dvc"
    assert dvc(clone, "config", "cache.dir").strip() == str(cache)
    assert len(said) == 1
    settle(said.append)  # an own checkout keeps what it has
    assert len(said) == 1


def test_packages_of_other_versions_are_refused(clone):
    constraints = clone / "constraints.txt"
    constraints.write_text(constraints.read_text() + "psutil==0.0.1\n")
    project = clone / "pyproject.toml"
    wanted = project.read_text().replace('"psutil",', '"psutil", "nowhere-to-be-had",')
    project.write_text(wanted)
    with pytest.raises(
        ConfigError, match=r"nowhere-to-be-had \(missing\), psutil"
    ) as said:
        settle(print)
    assert "(tested: 0.0.1)" in str(said.value)
    assert not (clone / ".venv").exists()


def test_what_a_clone_registers_must_outlive_it(clone, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ServiceError, match="MLFLOW_TRACKING_URI is not set"):
        settle(print)


def test_without_a_remote_nothing_can_be_shared(clone):
    with pytest.raises(ConfigError, match="no DVC remote: `dvc remote add"):
        settle(print)
