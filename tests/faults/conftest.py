"""One cluster in namespaces, and one whole stack, for all tests here."""

import os
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))  # small_project
sys.path.insert(0, str(Path(__file__).parent))  # lab and record, for tests alone

from cluster import check_installed, open_folder
from fleet import Fleet
from lab import laboratory

from infra.cluster.secrets import USER
from infra.nodes import missing


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A head without CPUs for training, two nodes with one each, and S3."""
    if lacks := missing():
        pytest.skip(f"Ray nodes in network namespaces need {'; '.join(lacks)}")
    # Another run of these tests may be on this machine.
    with laboratory(
        f"kmf{os.getpid() % 10**7}", tmp_path_factory.mktemp("lab")
    ) as found:
        yield found


@pytest.fixture(scope="session")
def fleet():
    """A whole stack with one Ray node, and a small checkout."""
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
