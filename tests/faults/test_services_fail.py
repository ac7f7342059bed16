"""A service of a whole stack, killed while a run trains on it."""

import time

import pytest
from cluster import check_installed, open_folder
from fleet import Fleet, until
from mlflow import MlflowClient
from record import record

from infra.cluster.secrets import USER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def fleet():
    check_installed()
    with open_folder() as folder:
        yield from Fleet.started(folder)


@pytest.fixture
def curve(fleet, monkeypatch):
    """The epochs of which the newest training's run in MLflow has a validation IoU."""
    secrets, url = fleet.cluster.stack.secrets, fleet.cluster.env["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secrets.mlflow_password)
    client = MlflowClient(url)

    def look():
        found = client.get_experiment_by_name("kmunet-synthetic")
        if not found:
            return []
        runs = client.search_runs(
            [found.experiment_id], order_by=["attributes.start_time DESC"]
        )
        if not runs:
            return []
        history = client.get_metric_history(runs[0].info.run_id, "val_iou")
        return sorted(metric.step for metric in history)

    return look


def completed(fleet, run):
    state = fleet.ended(run)
    assert state["type"] == "COMPLETED", (state, fleet.logs(run)[-30:])
    return fleet.tasks(run)


def test_mlflow_gets_all_epochs_after_it_was_killed(fleet, curve):
    run = fleet.train(seed=1, epochs=24)
    until(lambda: len(curve()) >= 2, 240)
    fleet.kill("mlflow")
    fleet.reaches(run, fleet.epoch() + 5)
    missed = fleet.epoch()
    fleet.up()
    start = time.monotonic()
    until(lambda: missed in curve(), 120)
    seconds = time.monotonic() - start
    assert set(completed(fleet, run).values()) == {"Completed"}
    assert curve() == list(range(1, 25))
    what = "the training goes on; what it has to tell waits in .kmunet/mlflow-pending"
    kept = "all: every epoch once, the model registered"
    record("the MLflow server killed, started again (seconds: after it is back)",
           what, kept, seconds)  # fmt: skip
