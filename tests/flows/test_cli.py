"""The plain call without a server, as a user makes it."""

import pytest
from small_project import git, python


@pytest.fixture
def call(project):
    return lambda *arguments: python(project, "-m", "flows.main", *arguments)


def test_a_plain_call_needs_no_server_and_is_quiet(project, call):
    first, second = call(), call()
    assert first.returncode == second.returncode == 0
    assert first.stderr == second.stderr == ""
    assert "epoch 2" in first.stdout
    assert "0.500 (0.400, 0.600)" in first.stdout
    assert "reports/synthetic/report.html" in first.stdout
    assert "python -m pipelines.rollback --dataset synthetic" in first.stdout
    assert "no stage had to run" in second.stdout
    assert "git add" not in first.stdout
    assert (project / ".kmunet" / "prefect").exists()
    assert git(project, "status", "--short") == "?? dvc.lock\n"


def test_a_failed_stage_ends_with_its_message(call):
    done = call("--set", "train.epochs=13")
    assert done.returncode == 2
    assert "13 is unlucky" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "nope"], "'nope'"),
        (["--set", "train.lr=99"], "train.lr"),
        (["--set", "train.lr"], "key=value"),
        (["--raw", "busi=/no/where.zip"], "/no/where.zip"),
        (["--raw", "busi"], "NAME=PATH"),
    ],
)
def test_bad_input_ends_with_one_message(project, call, arguments, words):
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert git(project, "status", "--short") == ""
