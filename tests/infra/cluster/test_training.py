"""A real training on the whole stack: over its nodes, into its registry and buckets."""

import json
import os

import leaks
import pytest
from cluster import Cluster, running

from benchmarks import small_checkout
from infra.cluster import postgres
from infra.cluster.secrets import USER
from infra.local.http import basic, post

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def trained(cluster, reachable):
    """A stack of a real checkout, after a deployment run; the other one has ended."""
    cluster.down()
    values = {**small_checkout.SMALL, "train.workers": 2, "train.threads": 2}
    found = Cluster.of(small_checkout.make(reachable / "checkout", values))
    for started in running(found):
        done = started.python(
            *("-m", "prefect", "deployment", "run", "kmunet/train", "--watch")
        )
        assert "finished successfully" in done.stdout, done.stdout + done.stderr
        yield started


def mlflow(cluster, path, body):
    secrets = cluster.stack.secrets
    header = basic(f"{USER}:{secrets.mlflow_password}")
    url = cluster.stack.settings.url("mlflow")
    return post(f"{url}/api/2.0/mlflow/{path}", body, header)


def test_the_champion_is_in_the_registry_and_its_files_on_s3(trained):
    found = mlflow(trained, "registered-models/get-latest-versions",
                   {"name": "kmunet-synthetic"})  # fmt: skip
    (version,) = found["model_versions"]
    assert set(version["aliases"]) == {"champion", "challenger"}
    code = (
        "import mlflow, numpy as np;"
        "model = mlflow.pyfunc.load_model('models:/kmunet-synthetic@champion');"
        "print(model.predict(np.zeros((20, 30, 3), np.uint8)).shape)"
    )
    done = trained.python("-c", code)
    assert done.stdout.strip() == "(20, 30)", done.stderr
    artifacts = trained.place.buckets / "kmunet-mlflow" / "artifacts"
    assert list(artifacts.rglob("model.safetensors"))
    assert list(artifacts.rglob("report.html"))


def test_every_node_trained_and_no_checkpoint_is_left(trained):
    if trained.stack.settings.nodes:
        for number in range(1, trained.stack.settings.nodes + 1):
            logs = trained.place.node(number) / "tmp"
            assert list(logs.glob("session_*/logs/train/ray-train-app-worker-*.log"))
    kept = trained.place.buckets / "kmunet-checkpoints"
    assert not list(kept.rglob("*.safetensors"))


def test_no_secret_is_in_records_or_files(trained):
    place, secrets = trained.place, trained.stack.secrets
    kept = {place.secrets, place.env, place.ray_token}
    kept |= {place.pgpass(role) for role in postgres.ROLES}
    assert not leaks.in_files(secrets, trained.root / ".kmunet", kept)
    assert not leaks.in_repository(secrets, trained.root)
    assert not leaks.in_arguments(secrets)
    for role in postgres.ROLES:
        uri = postgres.uri(trained.stack.settings, role)
        assert not leaks.in_database(secrets, uri, place.pgpass(role))
    (experiment,) = [
        found["experiment_id"]
        for found in mlflow(trained, "experiments/search", {"max_results": 9})[
            "experiments"
        ]
        if found["name"] == "kmunet-synthetic"
    ]
    runs = mlflow(trained, "runs/search", {"experiment_ids": [experiment]})
    assert runs["runs"][0]["data"]["params"]
    assert not leaks.held(secrets, json.dumps(runs))


def test_data_can_be_pushed_and_come_back(trained):
    assert trained.python("-m", "dvc", "push", "-q").returncode == 0
    assert any((trained.place.buckets / "kmunet-dvc").rglob("*.dir"))


def test_the_next_start_goes_on_with_the_data(trained):
    secrets = trained.stack.secrets.values()
    done = trained.down()
    assert "stopped: worker" in done.stdout
    assert not any(trained.records().values())
    assert "cluster" not in (trained.root / ".dvc/config.local").read_text()
    assert trained.up().returncode == 0
    assert trained.stack.secrets.values() == secrets
    found = mlflow(trained, "registered-models/get-latest-versions",
                   {"name": "kmunet-synthetic"})  # fmt: skip
    assert len(found["model_versions"]) == 1
    assert os.environ.get("KMUNET_PROFILE") is None  # nothing of it in this process
