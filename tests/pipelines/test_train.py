"""Stage train as a process with Ray inside: two workers, killed, resumed, replayed."""

import csv
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file

from kmunet.config import load_params, parse_params
from kmunet.data.digest import sha256_of
from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from kmunet.errors import CheckpointError
from pipelines import prepare, split
from pipelines.paths import Paths
from pipelines.receipt import Receipt, read_receipt
from pipelines.train import export, note_empty
from pipelines.verify import verdict
from tests.pipelines.workspaces import verified

ROOT = Path(__file__).parents[2]
FILES = ("model.safetensors", "model.json", "history.csv", "receipt.json")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace with prepared data and params for two workers."""
    paths = Paths(tmp_path_factory.mktemp("train"), "synthetic")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["synthesize"] |= {"images": 40, "size": 48}
    raw["sources"]["synthetic"]["sizes"] = [32]
    raw["model"]["widths"] = [16, 24, 32]
    raw["train"] |= {"epochs": 3, "workers": 2, "threads": 1, "lr": 0.0123}
    paths.params.write_text(yaml.safe_dump(raw))
    params = parse_params(raw)
    write_synthetic(paths.raw, **params.synthesize.model_dump())
    prepare.run(params, paths)
    split.run(params, paths)
    return paths


def test_damaged_weights_do_not_become_the_model(tmp_path):
    (tmp_path / "model").mkdir()
    state = {"sha256": {"best": hashlib.sha256(b"weights").hexdigest()}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / "best.safetensors").write_bytes(b"weighty")
    with pytest.raises(CheckpointError, match=r"best\.safetensors is not what was"):
        export(tmp_path, None, None, tmp_path / "model" / "synthetic")
    assert not list((tmp_path / "model").iterdir())


def test_what_is_no_model_folder_has_no_receipt(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for name in ("file", "nowhere"):
        with pytest.raises(CheckpointError, match=f"{name}: has no receipt.json: "):
            read_receipt(tmp_path / name)


def test_a_training_of_some_workers_may_differ_by_their_number():
    then = Receipt("busi", {"train": {"workers": [1, 4]}}, "", "", {}, [0.5, 0.4])
    reason = "train.workers is [1, 4]: another number of workers than then rounds"
    assert f"; {reason}" in verdict(then, [0.5, 0.3])
    fixed = replace(then, params={"train": {"workers": 4}})
    assert verdict(fixed, [0.5, 0.3]).endswith("(relative difference 2.5e-01)")
    assert "workers" not in verdict(then, [0.5, 0.4])


def test_empty_masks_that_nothing_teaches_are_named(prepared, capsys):
    params = load_params(prepared.params)
    packed = open_packed(prepared.prepared, prepared.splits)
    note_empty(params, packed)
    told = capsys.readouterr().out
    empty = (packed.masks[packed.indices("train")] == 0).all((1, 2))
    assert empty.any()
    assert f"note: {empty.sum()} of {len(empty)} training images" in told
    assert "model.presence=true" in told
    taught = params.model.model_copy(update={"presence": True})
    note_empty(params.model_copy(update={"model": taught}), packed)
    assert not capsys.readouterr().out


def _start(paths):
    # MLflow puts the store that another test has chosen into the environment.
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", "--dataset", paths.dataset],
        cwd=paths.root,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _finish(process):
    out, _ = process.communicate(timeout=280)
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def whole(prepared):
    """The bytes that an undisturbed run writes, and what it printed."""
    out = _finish(_start(prepared))
    return {name: (prepared.model / name).read_bytes() for name in FILES}, out


def test_two_workers_write_a_model(whole, prepared):
    card = json.loads((prepared.model / "model.json").read_text())
    with (prepared.model / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert card["best"]["iou"] == pytest.approx(
        max(float(row["val_iou"]) for row in rows)
    )
    weights = load_file(prepared.model / "model.safetensors")
    assert "final.weight" in weights
    assert "epoch 3/3" in whole[1]


def test_the_learning_rate_of_params_yaml_is_the_optimizers(whole, prepared):
    with (prepared.model / "history.csv").open() as file:
        assert float(next(csv.DictReader(file))["lr"]) == 0.0123


def test_the_training_is_a_run_in_mlflow(whole, prepared):
    """Its curves are those of history.csv; its weights those of the model."""
    client = MlflowClient(f"sqlite:///{prepared.root}/.kmunet/mlflow.db")
    place = client.get_experiment_by_name("kmunet-synthetic").experiment_id
    weights = sha256_of(prepared.model / "model.safetensors")
    (run,) = client.search_runs([place], f"tags.checkpoint_sha256 = '{weights}'")
    assert run.info.status == "FINISHED"
    with (prepared.model / "history.csv").open() as file:
        curve = [float(row["val_iou"]) for row in csv.DictReader(file)]
    points = client.get_metric_history(run.info.run_id, "val_iou")
    assert [point.value for point in points] == pytest.approx(curve)
    pictures = client.list_artifacts(run.info.run_id, "images")
    assert {int(item.path.split("+step+")[1].split("+")[0]) for item in pictures} == {
        1, 2, 3
    }  # fmt: skip


def test_a_finished_run_leaves_no_checkpoints(whole, prepared):
    assert list((prepared.root / ".kmunet/ray").glob("*")) == []


@pytest.fixture(scope="module")
def replayed(whole, prepared):
    """What `kmunet verify` says of the run."""
    return verified(prepared.root, prepared.model)


def test_the_first_steps_are_replayed_to_the_same_bits(replayed, prepared):
    losses = read_receipt(prepared.model).losses
    assert len(losses) == 9  # 3 epochs of 3 batches
    assert len(set(losses)) == 9
    said = "synthetic: reproduces: the first 9 losses are the same bits"
    assert replayed.strip() == said


def test_a_difference_is_told_by_step_and_by_what_has_changed(replayed, prepared):
    then = read_receipt(prepared.model)
    losses = [*then.losses[:4], math.nextafter(then.losses[4], 9), *then.losses[5:]]
    assert "does not reproduce: the loss of step 5 was" in verdict(then, losses)
    now = replace(then, data="other", environment={**then.environment, "torch": "1.0"})
    first, second = then.differences(now)
    assert first == "the data: other than it was"
    assert second.startswith("torch: ")
    assert second.endswith("then, 1.0 now")


def _kill_once(saved, prepared):
    """Start a training and kill all of it once it has `saved`."""
    process = _start(prepared)
    deadline = time.monotonic() + 200
    while not saved():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)  # the controller takes checkpoints up every 2 s
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if (prepared.model / "model.json").exists():
        pytest.skip("the run was over before it could be killed")
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


@pytest.mark.timeout(600)
def test_a_killed_run_resumes_to_the_same_bytes(whole, prepared):
    shutil.rmtree(prepared.model)
    storage = prepared.root / ".kmunet/ray"
    _kill_once(lambda: list(storage.glob("*/checkpoint*/state.json")), prepared)
    out = _finish(_start(prepared))
    assert "epoch 1/3" not in out
    assert {n: (prepared.model / n).read_bytes() for n in FILES} == whole[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_resumes_from_s3_to_the_same_bytes(
    whole, prepared, s3_server, aws
):
    s3_server.put("trainings", "made", b"")
    aws.setenv("KMUNET_STORAGE", "s3://trainings/here")

    def stored():
        found = s3_server.client.list_objects_v2(Bucket="trainings")["Contents"]
        return [item["Key"] for item in found if item["Key"] != "made"]

    shutil.rmtree(prepared.model)
    _kill_once(lambda: [key for key in stored() if "state.json" in key], prepared)
    assert "epoch 1/3" not in _finish(_start(prepared))
    assert {n: (prepared.model / n).read_bytes() for n in FILES} == whole[0]
    assert stored() == []
    assert list((prepared.root / ".kmunet/ray").glob("*")) == []


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"batch_size": 64}, "train.batch_size 64 is more than the 28"),
        ("presets", {"paper": [{"name": "Fly"}]}, "presets.paper.0.name: 'Fly' is no"),
        ("augment", [{"name": "D4", "args": {}}], "stands under 'presets' with a name"),
        ("model", {"widths": [16, 24]}, "widths"),
        ("train", {"size": 64}, "train.size: 64 is none of sources.synthetic.sizes"),
        ("train", {"precision": "float16"}, "train.precision: float16 needs a GPU"),
        ("train", {"scan_backend": "mamba-ssm"}, "train.scan_backend: scan backend"),
        ("train", {"batch_size": 2, "accumulate": 2, "workers": 1}, "a single number"),
    ],
)
def test_what_cannot_train_ends_before_ray_starts(prepared, section, change, message):
    kept = prepared.params.read_text()
    raw = yaml.safe_load(kept)
    raw[section] = {**raw[section], **change} if isinstance(change, dict) else change
    prepared.params.write_text(yaml.safe_dump(raw))
    process = _start(prepared)
    out, _ = process.communicate(timeout=120)
    prepared.params.write_text(kept)
    assert process.returncode == 2
    assert message in out
    assert "Traceback" not in out
