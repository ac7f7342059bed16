"""The flow with real Prefect and DVC: what runs, what is cached, what stays clean."""

import shutil
import time

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.testing.utilities import prefect_test_harness
from small_project import dvc, git, make_project

from flows.main import kmunet

STAGES = ["prepare", "split", "train", "evaluate", "register"]


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def checkout(server, tmp_path_factory):
    """A checkout in which the flow has run once."""
    place = make_project(tmp_path_factory.mktemp("flow") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        state = kmunet(return_state=True)
    assert state.is_completed(), state.message
    git(place, "add", "dvc.lock")
    return place


@pytest.fixture
def run(checkout, monkeypatch):
    """Run the flow in the checkout; return its state and its tasks' states."""
    monkeypatch.chdir(checkout)

    def call(**request):
        state = kmunet(**request, return_state=True)
        return state, _tasks(state.state_details.flow_run_id)

    return call


def _tasks(flow_run):
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
        )
    return {task.name: task.state.name for task in found}


def _expected(dataset, *states, **more):
    named = {f"{stage}@{dataset}": s for stage, s in zip(STAGES, states, strict=True)}
    return named | more


def test_a_second_run_does_no_work_and_dvc_agrees(run, checkout):
    state, tasks = run()
    assert tasks == _expected("synthetic", *["Cached"] * 5, synthesize="Cached")
    (result,) = state.result()
    assert result.metrics["images"] == 3
    assert result.report == checkout / "reports" / "synthetic"
    assert "up to date" in dvc(checkout, "status")
    assert "up to date" in dvc(checkout, "repro")


def test_after_dvc_the_flow_has_nothing_to_do(run, checkout):
    (checkout / "models" / "synthetic" / "model.json").unlink()
    shutil.rmtree(checkout / "reports")
    dvc(checkout, "repro", "--force")
    assert set(run()[1].values()) == {"Cached"}


def test_a_deleted_output_comes_back_from_the_cache(run, checkout):
    model = checkout / "models" / "synthetic" / "model.json"
    before = model.read_bytes()
    shutil.rmtree(model.parent)
    assert set(run()[1].values()) == {"Cached"}
    assert model.read_bytes() == before


def test_a_dvc_that_was_killed_stops_no_later_run(run, checkout):
    (checkout / ".dvc" / "tmp" / "rwlock").write_text("")
    state, tasks = run()
    assert set(tasks.values()) == {"Cached"}
    logs = _logs(state.state_details.flow_run_id)
    assert any("rwlock: cut short when a DVC was killed" in line for line in logs)


def test_an_override_reruns_what_it_must_and_leaves_the_checkout_clean(run, checkout):
    before = git(checkout, "status", "--short"), (checkout / "params.yaml").read_text()
    state, tasks = run(overrides={"train.lr": 0.123})
    again = run(overrides={"train.lr": 0.123})[1]
    after = git(checkout, "status", "--short"), (checkout / "params.yaml").read_text()
    assert tasks["prepare@synthetic"] == tasks["synthesize"] == "Cached"
    assert tasks["train@synthetic"] == "Completed"
    assert set(again.values()) == {"Cached"}
    assert after == before
    assert "up to date" in dvc(checkout, "status")
    (result,) = state.result()
    assert result.model.is_relative_to(checkout / "runs")
    assert '"lr": 0.123' in (result.model / "model.json").read_text()
    used = yaml.safe_load((result.model.parent / "params.yaml").read_text())
    assert used["train"]["lr"] == 0.123
    assert "seed" in (result.model.parent / "splits.json").read_text()


def test_another_fold_prepares_nothing(run):
    tasks = run(overrides={"split.folds": 5, "split.fold": 3})[1]
    assert tasks["prepare@synthetic"] == "Cached"
    assert tasks["split@synthetic"] == tasks["train@synthetic"] == "Completed"


def test_an_archive_from_elsewhere(run, checkout, tmp_path):
    archive = tmp_path / "Dataset_BUSI.zip"
    archive.write_text("ultrasound")
    before = git(checkout, "status", "--short")
    state, tasks = run(raw={"busi": str(archive)})
    assert tasks == _expected("busi", *["Completed"] * 5)
    assert set(run(raw={"busi": str(archive)})[1].values()) == {"Cached"}
    (result,) = state.result()
    assert (result.report / "report.html").exists()
    assert not (checkout / "data" / "raw" / "busi").exists()
    assert git(checkout, "status", "--short") == before


def test_an_archive_from_s3(run, checkout, aws, s3_server):
    url = s3_server.put("flows", "Dataset_BUSI.zip", b"ultrasound")
    state, tasks = run(raw={"busi": url})
    assert state.is_completed(), state.message
    assert tasks["register@busi"] in ("Completed", "Cached")
    logs = _logs(state.state_details.flow_run_id)
    assert any("checked by md5 of S3's ETag" in line for line in logs)
    (kept,) = (checkout / ".kmunet" / "downloads").rglob("Dataset_BUSI.zip")
    assert kept.read_bytes() == b"ultrasound"
    assert "data/raw" not in git(checkout, "status", "--short")
    state, tasks = run(raw={"busi": url.replace("BUSI", "none")})
    assert "s3://flows/Dataset_none.zip: no such bucket or key (404)" in state.message
    assert tasks == {}


def test_force_runs_every_stage_again(run):
    assert set(run(force=True)[1].values()) == {"Completed"}


def test_a_failed_stage_says_why_and_ends_its_data_set(run, checkout):
    state, tasks = run(overrides={"train.epochs": 13})
    assert state.is_failed()
    assert "train@synthetic" in state.message
    assert "error: train: train.epochs: 13 is unlucky;\nchoose another" in state.message
    assert tasks["train@synthetic"] == "Failed"
    assert "evaluate@synthetic" not in tasks
    logs = _logs(state.state_details.flow_run_id)
    assert not any("Traceback" in line for line in logs)
    assert not list((checkout / ".kmunet" / "workspaces").iterdir())


def test_one_data_set_fails_and_the_other_goes_on(run, checkout, tmp_path):
    (tmp_path / "empty").mkdir()
    (checkout / "stage.py").write_text(
        (checkout / "stage.py")
        .read_text()
        .replace("    found = ", "    assert dataset != 'busi'\n    found = ")
    )
    state, tasks = run(
        datasets=["busi", "synthetic"], raw={"busi": str(tmp_path / "empty")}
    )
    git(checkout, "checkout", "-q", "stage.py")
    assert state.is_failed()
    assert "prepare@busi" in state.message
    assert tasks["prepare@busi"] == "Failed"
    assert tasks["register@synthetic"] in ("Completed", "Cached")


def test_a_bad_request_starts_nothing(run):
    state, tasks = run(overrides={"train.lr": 99})
    assert state.is_failed()
    assert "train.lr" in state.message
    assert tasks == {}


def test_logs_and_artifacts_can_be_read_back(run):
    state, _ = run(overrides={"train.lr": 0.5})
    run_id = state.state_details.flow_run_id
    wanted, limit = {"epoch 0", "epoch 2"}, time.monotonic() + 30
    while not wanted <= set(_logs(run_id)) and time.monotonic() < limit:
        time.sleep(0.2)  # Prefect sends logs in batches
    assert wanted <= set(_logs(run_id))
    with get_client(sync_client=True) as client:
        found = {a.key: a for a in client.read_artifacts() if a.flow_run_id == run_id}
    assert "0.500 (0.400, 0.600)" in found["kmunet-results"].data
    assert "report.html" in found["kmunet-report"].data


def _logs(flow_run):
    with get_client(sync_client=True) as client:
        found = client.read_logs(
            log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run])),
            limit=200,
        )
    return [log.message for log in found]
