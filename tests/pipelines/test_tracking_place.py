"""Experiments whose artifacts go to a disk that this machine cannot write."""

import pytest
from mlflow import MlflowClient

from kmunet.errors import ServiceError
from pipelines.tracking import Record, Registry
from pipelines.tracking_place import storing
from pipelines.tracking_sweep import SweepRuns

TOLD = r"go to file://.*/elsewhere, which .* cannot write \(.*--serve-artifacts"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An experiment `squares` in a store; its artifacts go below a file."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "elsewhere").write_text("no folder")
    client = MlflowClient(uri)
    client.create_experiment("squares", (tmp_path / "elsewhere").as_uri())
    return client


@pytest.fixture
def report(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<p>report</p>")
    return tmp_path / "report"


def test_a_sweep_is_closed_and_told_what_to_do(elsewhere, report, tmp_path):
    runs = SweepRuns(tmp_path, "squares", "identity", "a sweep")
    with pytest.raises(ServiceError, match=TOLD):
        runs.finish("FINISHED", {}, {"squares.iou.mean": 0.5}, report)
    run = elsewhere.get_run(runs.parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"squares.iou.mean": 0.5}


def test_no_version_is_made_of_what_cannot_be_stored(elsewhere, report, tmp_path):
    registry = Registry(tmp_path, "squares")
    tags = {"checkpoint_sha256": "0" * 64, "identity": "a", "dataset": "squares"}
    record = Record({}, {}, [], tags, (1, 8, 8, 3), "0" * 64, {"report": report})
    with pytest.raises(ServiceError, match=TOLD):
        registry.add(record, report)
    assert registry.find("identity", "a") is None


def test_what_is_missing_here_is_no_fault_of_the_place(elsewhere, tmp_path):
    (place,) = elsewhere.search_experiments(filter_string="name = 'squares'")
    with (
        pytest.raises(FileNotFoundError),
        storing(elsewhere, place.experiment_id),
    ):
        (tmp_path / "report.html").read_text()
