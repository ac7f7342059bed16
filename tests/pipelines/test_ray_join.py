"""What a driver refuses before it joins a cluster, and what it brings along."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kmunet.errors import ConfigError, ServiceError, TrainingError, UnavailableError
from pipelines.ray_code import check_versions, packed_code, versions
from pipelines.ray_join import check_address


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("ray://head:10001", ConfigError, "Ray Train does not run through a client"),
        ("head", ConfigError, "RAY_ADDRESS is 'head': write HOST:PORT or 'auto'"),
        ("127.0.0.1:1", UnavailableError, "refused.*unset it to train"),
        ("127.0.0.1:99999", ServiceError, "no Ray answers"),
    ],
)
def test_an_address_that_cannot_be_is_told_at_once(address, kind, message):
    with pytest.raises(kind, match=message):
        check_address(address)


def test_the_code_that_is_sent_is_whole_and_runs_alone(tmp_path):
    code = "from pipelines.receipt import code_digest; print(code_digest()[:12])"
    with packed_code() as folder:
        parts = sorted(path.name for path in Path(folder).iterdir())
        assert parts == ["infra", "kmunet", "pipelines"]
        assert not list(Path(folder).rglob("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": folder},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.strip() == versions()["kmunet's code"]
    assert not Path(folder).exists()


def test_the_profiles_that_are_chosen_are_sent(monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("local: {}\nmine: {}\n")
    monkeypatch.setenv("KMUNET_PROFILES", str(tmp_path / "mine.yaml"))
    with packed_code() as folder:
        assert "mine" in (Path(folder) / "infra/profiles.yaml").read_text()


def test_another_version_on_a_node_is_refused_by_name():
    check_versions(versions())
    said = rf"node {platform.node()} has torch .*, the driver 1\.0: install the same"
    with pytest.raises(TrainingError, match=said):
        check_versions(versions() | {"torch": "1.0"})
    with pytest.raises(TrainingError, match="kmunet's code"):
        check_versions(versions() | {"kmunet's code": "other"})
