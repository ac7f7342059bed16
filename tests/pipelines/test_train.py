"""Stage train as a process with Ray inside: two workers, killed and resumed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from kmunet.config import parse_params
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, split
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]
FILES = ("model.safetensors", "model.json", "history.csv")


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


def _start(paths):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", "--dataset", paths.dataset],
        cwd=paths.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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


def test_a_finished_run_leaves_no_checkpoints(whole, prepared):
    assert list((prepared.root / ".kmunet/ray").glob("*")) == []


@pytest.mark.timeout(600)
def test_a_killed_run_resumes_to_the_same_bytes(whole, prepared):
    shutil.rmtree(prepared.model)
    process = _start(prepared)
    storage = prepared.root / ".kmunet/ray"
    deadline = time.monotonic() + 200
    while not list(storage.glob("*/checkpoint*/state.json")):
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
    out = _finish(_start(prepared))
    assert "epoch 1/3" not in out
    assert {n: (prepared.model / n).read_bytes() for n in FILES} == whole[0]


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"batch_size": 64}, "train.batch_size 64 is more than the 28"),
        ("augment", [{"name": "Fly", "args": {}}], "augment.0.name: 'Fly' is no image"),
        ("model", {"widths": [16, 24]}, "widths"),
        ("train", {"size": 64}, "train.size: 64 is none of sources.synthetic.sizes"),
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
