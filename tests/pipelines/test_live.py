"""A real training, followed in a real MLflow that is killed and comes back."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from kmunet.config import parse_params
from kmunet.errors import ConfigError, TrainingStoppedError
from kmunet.report.contours import GREEN
from kmunet.training import LocalReporter, fit
from kmunet.training.reporter import Pictures
from pipelines import live, outbox
from pipelines.live import LiveRun, pictures_every
from pipelines.tracking_store import experiment

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests/services"), str(ROOT / "tests/training")]

import runs  # noqa: E402
from mlflow_server import MLflowServer  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    try:
        yield server
    finally:
        server.kill()
        os.environ.pop("MLFLOW_TRACKING_URI")


@pytest.fixture
def params():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["train"] |= {"epochs": 4, "batch_size": 4, "threads": 1}
    return parse_params(raw).train


@pytest.fixture
def follow(server, tmp_path, monkeypatch):
    """A training's run, as `live_run` makes it."""
    monkeypatch.setattr(live, "EVERY", 0.5)
    monkeypatch.setattr(outbox, "PAUSES", (0.2,))

    def make(training, ids=("a", "b/c"), experiment="kmunet-squares"):
        header = {
            "experiment": experiment, "training": training, "run_id": "",
            "params": {"train.lr": "0.001"}, "tags": {"training": training}, "time": 1,
        }  # fmt: skip
        return LiveRun(tmp_path, header, ids, 2)

    return make


class Followed(LocalReporter):
    """Tells what it reports, and calls `between` before each epoch's end."""

    def follow(self, live, between=lambda epoch: None):
        self.on_progress, self.on_pictures = live.progress, live.pictures
        self.live, self.between = live, between
        return self

    def wants_pictures(self, epoch):
        return epoch in (1, 4)

    def report(self, metrics, checkpoint):
        super().report(metrics, checkpoint)
        self.between(metrics["epoch"])
        self.live.report(metrics)


def _run(server, training):
    client = MlflowClient(server.uri)
    place = client.get_experiment_by_name("kmunet-squares").experiment_id
    (run,) = client.search_runs([place], f"tags.training = '{training}'")
    return client, run


def _curve(client, run, key):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


def test_mlflow_may_die_and_come_back_while_it_trains(
    server, follow, params, tmp_path, capsys
):
    """Epochs 2 and 3 end while it is down; the training does not know."""
    model, twin = runs.small_model(), runs.small_model()
    expected = fit(twin, runs.squares(), params, LocalReporter(tmp_path / "alone"))

    def between(epoch):
        if epoch == 2:
            server.kill()
        if epoch == 4:
            server.start()

    with follow("down") as seen:
        reporter = Followed(tmp_path / "seen").follow(seen, between)
        state = fit(model, runs.squares(), params, reporter)
        (tmp_path / "weights").write_bytes(b"w")
        seen.trained(tmp_path / "weights")
    assert state == expected
    client, run = _run(server, "down")
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["checkpoint_sha256"]) == 64
    for key in ("train_loss", "val_iou", "lr"):
        rows = [(int(row["epoch"]), row[key]) for row in state.history]
        assert _curve(client, run, key) == rows
    assert {"step/loss", "step/iou", "step/images_per_second"} <= set(run.data.metrics)
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert capsys.readouterr().err.count("warning: MLflow: ") == 1
    assert list((tmp_path / "mlflow-pending").iterdir()) == []
    files = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
    shown = sorted(f.split("+timestamp")[0] for f in files if f.endswith(".png"))
    assert shown[:3] == [
        "images/validation 1 a+step+1",
        "images/validation 1 a+step+4",
        "images/validation 2 b_c+step+1",
    ]
    assert len(set(shown)) == 8  # what the kill caught may be there twice


def test_a_training_that_goes_on_is_one_run(server, follow, tmp_path):
    seen = follow("stopped")
    seen.report({"epoch": 1.0, "val_iou": 0.25})
    seen.__exit__(None, TrainingStoppedError("stopped, and saved"), None)
    client, run = _run(server, "stopped")
    assert run.info.status == "KILLED"
    with follow("stopped") as seen:
        seen.report({"step": 7.0})  # a checkpoint within an epoch
        seen.report({"epoch": 2.0, "val_iou": 0.5})
    client, run = _run(server, "stopped")
    assert run.info.status == "FINISHED"
    assert _curve(client, run, "val_iou") == [(1, 0.25), (2, 0.5)]
    assert run.data.params == {"train.lr": "0.001"}


KILLED = """
import os, sys, time
from pathlib import Path
from pipelines.live import LiveRun

header = {
    "experiment": "kmunet-squares", "training": "killed", "run_id": "",
    "params": {}, "tags": {"training": "killed"}, "time": 1,
}
state = Path(sys.argv[1])
seen = LiveRun(state, header, (), 2)
seen.report({"epoch": 1.0, "val_iou": 0.25})
while True:
    time.sleep(0.1)
    for file in (state / "mlflow-pending").glob("*"):
        if file.read_text().count("\\n") == 1:  # sent
            os.kill(os.getpid(), 9)
"""


def test_a_training_that_was_killed_is_none_that_runs(server, follow, tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path]
    assert subprocess.run(command, timeout=60).returncode == -9
    client, run = _run(server, "killed")
    assert run.info.status == "RUNNING"
    with follow("another") as seen:
        seen.report({"epoch": 1.0, "val_iou": 0.5})
    client, run = _run(server, "killed")
    assert run.info.status == "KILLED"
    assert run.info.end_time > 1e12
    assert _curve(client, run, "val_iou") == [(1, 0.25)]
    with follow("killed") as seen:  # it goes on
        seen.report({"epoch": 2.0, "val_iou": 0.5})
    client, run = _run(server, "killed")
    assert run.info.status == "FINISHED"
    assert _curve(client, run, "val_iou") == [(1, 0.25), (2, 0.5)]


def test_parameters_that_a_fault_kept_back_are_logged_by_the_next_try(
    server, follow, tmp_path
):
    client = MlflowClient(server.uri)
    place = experiment(client, "kmunet-squares", tmp_path)
    client.create_run(place, tags={"training": "bare"})  # and then it died
    with follow("bare") as seen:
        seen.report({"epoch": 1.0, "val_iou": 0.25})
    client, run = _run(server, "bare")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.lr": "0.001"}


@pytest.fixture
def pictures():
    blank = np.zeros((2, 8, 8), np.uint8)
    colours = np.zeros((2, 8, 8, 3), np.uint8)
    return Pictures(1, colours, blank, blank, np.zeros(2))


def test_long_ids_make_names_that_files_may_have(server, follow, pictures, tmp_path):
    long = "case " + "x" * 200
    with follow("long", [f"{long}1", f"{long}2"]) as seen:
        seen.pictures(pictures)
        seen.report({"epoch": 1.0, "val_iou": 0.25})
    client, run = _run(server, "long")
    assert run.info.status == "FINISHED"
    assert _curve(client, run, "val_iou") == [(1, 0.25)]
    files = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
    names = {f.split("+step")[0] for f in files}
    assert len(names) == 2
    assert all(n.startswith("images/validation ") and " case xxx" in n for n in names)
    assert list((tmp_path / "mlflow-pending").iterdir()) == []


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_picture_that_has_no_place_keeps_no_curve_back(
    server, follow, pictures, tmp_path, capsys, no_aws, kind
):
    """As of a server whose artifacts lie on a disk that is its own, or without keys."""
    (tmp_path / "file").write_text("no folder")
    client = MlflowClient(server.uri)
    on_disk = (tmp_path / "file" / "artifacts").as_uri()
    place = client.create_experiment(
        f"kmunet-{kind}", on_disk if kind == "disk" else "s3://nowhere/artifacts"
    )
    with follow("apart", experiment=f"kmunet-{kind}") as seen:
        seen.pictures(pictures)
        seen.report({"epoch": 1.0, "val_iou": 0.25})
    (run,) = client.search_runs([place])
    assert run.info.status == "FINISHED"
    assert _curve(client, run, "val_iou") == [(1, 0.25)]
    assert capsys.readouterr().err.count("pictures are left out") == 1


@pytest.mark.parametrize("left", ["no JSON\n", '{"a": 1}\n{"kind": "end"}\n'])
def test_what_an_earlier_training_left_keeps_nothing_back(
    server, follow, tmp_path, capsys, left
):
    folder = tmp_path / "mlflow-pending"
    folder.mkdir()
    (folder / "0.jsonl").write_text(left)
    with follow("after") as seen:
        seen.report({"epoch": 1.0, "val_iou": 0.25})
    client, run = _run(server, "after")
    client.delete_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert _curve(client, run, "val_iou") == [(1, 0.25)]
    said = capsys.readouterr().err
    assert said.count("warning: MLflow: ") == 1
    assert f"an earlier training left stays in {folder}" in said
    assert [file.name for file in folder.iterdir()] == ["0.jsonl"]


def test_a_picture_shows_the_image_beside_its_outlines(params, tmp_path):
    told = []
    reporter = LocalReporter(tmp_path, on_pictures=told.append)
    fit(runs.small_model(), runs.squares(), params, reporter)
    pictures = told[-1]
    assert (pictures.epoch, pictures.images.shape) == (4, (4, 32, 32, 3))
    sample = runs.squares().validation[(0, 2)]  # validated in this order
    assert (pictures.images[2] == sample["image"].permute(1, 2, 0).numpy()).all()
    assert (pictures.truth[2] == sample["mask"].numpy()).all()
    with Image.open(io.BytesIO(live._overlay(pictures, 2, "name"))) as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(10**6)}
    assert GREEN in colours


@pytest.mark.parametrize(
    ("value", "epochs", "every"),
    [(None, 400, 40), ("10", 3, 1), ("4", 10, 3), ("0", 9, 0)],
)
def test_a_training_shows_about_ten_overlays(monkeypatch, value, epochs, every):
    monkeypatch.delenv("KMUNET_OVERLAYS", raising=False)
    if value is not None:
        monkeypatch.setenv("KMUNET_OVERLAYS", value)
    assert pictures_every(epochs) == every


def test_a_setting_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("KMUNET_OVERLAYS", "many")
    with pytest.raises(ConfigError, match="KMUNET_OVERLAYS is 'many': set it to a num"):
        pictures_every(3)
    monkeypatch.setenv("KMUNET_LIVE", "maybe")
    with pytest.raises(ConfigError, match="KMUNET_LIVE is 'maybe': set it to on or"):
        live.live_run(None, None, None, "a")


def test_switched_off_nothing_is_sent(monkeypatch, tmp_path):
    monkeypatch.setenv("KMUNET_LIVE", "off")
    with live.live_run(None, None, None, "a") as seen:
        assert seen.onlookers().pictures_every == 0
        seen.trained(tmp_path / "none")
