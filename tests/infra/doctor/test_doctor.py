"""The whole command in a checkout of its own, and how checks are run."""

import json
import os
import threading
import time
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from small_project import python

from infra.doctor.check import Check, examine, ok
from infra.doctor.check import error as problem
from kmunet import cli


def doctor(root, *arguments, **env):
    return python(root, "-m", "infra.doctor", *arguments, **env)


def files(root):
    """Of the checkout and git's own, with their times."""
    places = [*root.glob("*"), *root.glob(".dvc/**/*"), *root.glob(".git/**/*")]
    return {place: place.stat().st_mtime_ns for place in places}


def test_embedded_all_is_well_and_nothing_is_written(project):
    os.utime(project / "params.yaml", (1e9, 1e9))  # git would note it in its index
    before = files(project)
    done = doctor(project, "--json")
    found = {f["name"]: f for f in json.loads(done.stdout)}
    wrong = {n: f for n, f in found.items() if f["level"] == "error"}
    assert (done.returncode, wrong) == (0, {}), done.stderr
    assert {"python", "packages", "torch", "cpu kernel", "ray"} <= found.keys()
    assert found["git"]["level"] == "ok"
    assert "embedded" in found["mlflow"]["text"]
    assert files(project) == before


def test_each_service_that_is_away_is_an_error_with_a_remedy(project, free_port):
    (project / "params.yaml").write_text("changed: true\n")
    away = f"127.0.0.1:{free_port}"
    file = project / "profiles.yaml"
    file.write_text(
        f"away: {{ray_address: '{away}', mlflow: 'http://{away}', "
        f"prefect: 'http://{away}/api', storage: 's3://bucket/checkpoints', "
        f"s3_endpoint: 'http://{away}', dvc_remote: 's3://bucket/dvc'}}\n"
    )
    keys = {"AWS_ACCESS_KEY_ID": "hunter1", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    done = doctor(
        project, "--profile", "away", "--json", KMUNET_PROFILES=str(file), **keys
    )
    assert done.returncode == 1
    found = {f["name"]: f for f in json.loads(done.stdout)}
    for name in ("ray", "mlflow", "prefect", "checkpoints", "dvc remote"):
        assert found[name]["level"] == "error", found[name]
        assert found[name]["remedy"], found[name]
    assert "refused" in found["ray"]["text"]
    assert "connection refused" in found["mlflow"]["text"]
    assert "connection refused" in found["checkpoints"]["text"]
    assert "dvc remote add -d store s3://bucket/dvc" in found["dvc remote"]["remedy"]
    assert "params.yaml" in found["git"]["text"]
    assert "hunter" not in done.stdout + done.stderr


def test_a_profile_that_is_wrong_is_a_finding(project):
    done = doctor(project, "--profile", "clutser")
    assert done.returncode == 1
    assert "ERROR    profile  KMUNET_PROFILE is 'clutser'" in done.stdout
    assert "1 error(s)" in done.stdout


def test_a_check_that_hangs_or_breaks_stops_no_other():
    forever = threading.Event()
    begun = time.monotonic()

    def breaks():
        raise OSError("not this way")

    found = examine([
        Check("hangs", lambda: forever.wait() or [], limit=0.2),
        Check("breaks", breaks),
        Check("fine", lambda: [ok("fine", "yes")]),
    ])  # fmt: skip
    forever.set()
    assert [f.level for f in found] == ["error", "error", "ok"]
    assert "no answer within" in found[0].text
    assert found[1].text == "OSError: not this way"
    assert time.monotonic() - begun < 60  # did not wait for ever


def test_no_secret_is_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    said = problem("it", "http://me:other@host says hunter2", "try hunter2")
    (found,) = examine([Check("it", lambda: [said])])
    assert found.text == "http://host says ***"
    assert found.remedy == "try ***"


@pytest.mark.parametrize("chooses", [True, False])
def test_only_the_doctor_starts_without_the_profile(monkeypatch, capsys, chooses):
    monkeypatch.setenv("KMUNET_PROFILE", "nope")
    command = SimpleNamespace(
        __doc__="it", add_arguments=lambda parser: None, run=lambda parsed: 0,
        chooses_profile=chooses,
    )  # fmt: skip
    names = {
        "kmunet.commands": "pipelines.verify",
        "kmunet.start": "pipelines.profile:apply",
    }
    monkeypatch.setattr(
        cli, "entry_points", lambda group: [EntryPoint("it", names[group], group)]
    )
    monkeypatch.setattr(cli, "_load", lambda entry: command)
    assert cli.main(["it"]) == (0 if chooses else 2)
    assert ("KMUNET_PROFILE is 'nope'" in capsys.readouterr().err) is not chooses
