"""Profiles: values for variables, never a secret; the user's own stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmunet.errors import ConfigError
from pipelines.profile import FILE, VARIABLES, apply, chosen

ROOT = Path(__file__).parents[2]


def from_text(tmp_path, text, name="mine"):
    file = tmp_path / "profiles.yaml"
    file.write_text(text)
    return {"KMUNET_PROFILES": str(file), "KMUNET_PROFILE": name}


def test_local_sets_nothing_and_is_the_default():
    environ = {}
    apply(None, environ)
    assert environ == {}


def test_the_cluster_profile_sets_every_variable():
    environ = {"KMUNET_PROFILE": "cluster"}
    profile = apply(None, environ)
    assert environ.keys() == {*VARIABLES.values(), "KMUNET_PROFILE"}
    assert environ["PREFECT_API_URL"].endswith("/api")
    assert profile.dvc_remote


def test_what_the_user_set_stands_even_if_it_is_empty():
    environ = {"RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "http://here:1"}
    apply("cluster", environ)
    assert environ["RAY_ADDRESS"] == ""
    assert environ["MLFLOW_TRACKING_URI"] == "http://here:1"
    assert environ["KMUNET_STORAGE"].startswith("s3://")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mine: {mlfow: x}", "mine.mlfow: no such key; there are ray_address"),
        ("mine: {mlflow: 'http://u:hunter2@h'}", "mine.mlflow: holds what looks like"),
        ("mine: {prefect: 'https://h/api?token=hunter2'}", "looks like a secret"),
        ("mine: {storage: AKIAIOSFODNN7EXAMPLE}", "looks like a secret: take it out"),
        ("mine: {aws_secret_access_key: hunter2}", "no such key"),
        ("mine: {mlflow: {hunter2: 1}}", "mine.mlflow"),
        ("mine: hunter2", "write keys and values"),
        ("mine: [", "line 1: not YAML"),
        ("other: {}", "'mine': .* has other"),
    ],
)
def test_a_profile_that_cannot_be_used_names_the_key_not_the_value(
    tmp_path, text, says
):
    with pytest.raises(ConfigError, match=says) as caught:
        chosen(environ=from_text(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_a_relative_file_would_be_another_in_a_workspace():
    with pytest.raises(ConfigError, match="write the whole path"):
        chosen(environ={"KMUNET_PROFILES": "profiles.yaml"})


def test_the_committed_file_has_no_other_profile_than_described():
    assert FILE == ROOT / "infra" / "profiles.yaml"
    with pytest.raises(ConfigError, match="has cluster, local"):
        chosen("clutser", {})


def run(*arguments, **env):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
    )  # fmt: skip


def test_a_stage_alone_gets_it(tmp_path):
    env = from_text(tmp_path, "mine: {storage: /checkpoints, s3_endpoint: http://s3}")
    code = """if True:
        import os
        from pipelines.stage import report_errors
        names = ("KMUNET_STORAGE", "AWS_ENDPOINT_URL")
        report_errors("any", lambda: print(*(os.environ[name] for name in names)))
    """
    done = run("-c", code, **env, AWS_ENDPOINT_URL="http://mine")
    assert done.stdout.split() == ["/checkpoints", "http://mine"], done.stderr
    done = run("-m", "pipelines.split", "--dataset", "busi", KMUNET_PROFILE="nope")
    assert done.returncode == 2
    assert done.stderr.startswith("error: split: KMUNET_PROFILE is 'nope'")


def test_a_shell_gets_it(tmp_path):
    env = from_text(tmp_path, "mine: {storage: 's3://b/a b', ray_address: 'h:1'}")
    done = run("-m", "pipelines.profile", **env, RAY_ADDRESS="other:1")
    assert done.stdout.splitlines() == [
        "export RAY_ADDRESS=other:1",
        "export KMUNET_STORAGE='s3://b/a b'",
    ]
