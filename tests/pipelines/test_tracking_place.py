"""Experiments whose artifacts go to a disk that this machine cannot write, or to S3."""

import socket

import boto3
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client

from kmunet.errors import ServiceError, UnavailableError
from pipelines.tracking import Record, Registry
from pipelines.tracking_place import artifact, storing
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


@pytest.fixture
def on_s3(aws, tmp_path, s3_server):
    """The experiment `squares` with its artifacts on S3, and a sweep of it."""
    s3_server.put("artifacts", "there", b"")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    aws.setenv("MLFLOW_TRACKING_URI", uri)
    aws.setenv("AWS_MAX_ATTEMPTS", "1")
    look_again(aws)
    MlflowClient(uri).create_experiment("squares", "s3://artifacts/squares")
    return SweepRuns(tmp_path, "squares", "identity", "a sweep")


def look_again(patch):
    """As another process would: MLflow and boto3 keep what they found first."""
    _cached_get_s3_client.cache_clear()
    patch.setattr(boto3, "DEFAULT_SESSION", None)


def test_artifacts_go_to_s3_and_come_back(on_s3, report):
    on_s3.finish("FINISHED", {}, {}, report)
    read = artifact(on_s3.client, on_s3.parent, "report.html")
    assert read == "<p>report</p>"
    assert artifact(on_s3.client, on_s3.parent, "lineage.json") is None


def test_keys_that_s3_refuses_are_told_and_the_run_is_closed(on_s3, report, aws):
    aws.setenv("AWS_SECRET_ACCESS_KEY", "another")
    look_again(aws)
    told = r"^artifacts of squares: s3://artifacts/squares: access denied \(403\).*KEY"
    with pytest.raises(ServiceError, match=told) as caught:
        on_s3.finish("FINISHED", {}, {"squares.iou.mean": 0.5}, report)
    assert not caught.value.transient
    run = on_s3.client.get_run(on_s3.parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"squares.iou.mean": 0.5}
    with pytest.raises(MlflowException, match="Failed to list artifacts in s3://art"):
        artifact(on_s3.client, on_s3.parent, "report.html")


def test_s3_being_away_may_pass(on_s3, report, aws, closed_port):
    aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    look_again(aws)
    with pytest.raises(UnavailableError, match="no connection: connection refused"):
        on_s3.finish("FINISHED", {}, {}, report)


@pytest.fixture
def closed_port():
    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
