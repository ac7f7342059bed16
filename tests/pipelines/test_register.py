"""Registration, gate and rollback against a real MLflow store, and a real consumer.

The models are untrained: a bias on the last convolution makes one that finds nothing
(IoU 0 where every image has a lesion) and one that marks everything.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from kmunet.config import parse_params
from kmunet.data.digest import sha256_of
from kmunet.data.store import open_packed
from kmunet.errors import CheckpointError, ServiceError
from kmunet.models import build_model
from pipelines import prepare, promotion, register, rollback, split
from pipelines.evidence import flatten
from pipelines.live import live_run
from pipelines.paths import Paths
from pipelines.register import numbers
from pipelines.tracking import Registry, requirements

ROOT = Path(__file__).parents[2]
NOTHING, EVERYTHING = -30.0, 30.0


@pytest.fixture(scope="module")
def params():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"] = {"squares": {"kind": "folder", "sizes": [32]}}
    raw["datasets"] = ["squares"]
    raw["model"]["widths"] = [16, 24, 32]
    raw["register"]["gate"]["confidence"] = 0.0  # of three images there is no bound
    return parse_params(raw)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, params):
    paths = Paths(tmp_path_factory.mktemp("workspace"), "squares")
    paths.params.write_text("# as used\n")
    rng = np.random.default_rng(0)
    for place in ("images", "masks"):
        (paths.raw / place).mkdir(parents=True)
    for number in range(20):
        mask = np.zeros((40, 48), np.uint8)
        mask[5 : 20 + number, 10:30] = 255
        noise = rng.integers(0, 255, mask.shape, np.uint8)
        Image.fromarray(noise).save(paths.raw / "images" / f"{number}.png")
        Image.fromarray(mask).save(paths.raw / "masks" / f"{number}.png")
    prepare.run(params, paths)
    split.run(params, paths)
    paths.report.mkdir(parents=True)
    (paths.report / "report.html").write_text("<p>report</p>")
    return paths


@pytest.fixture(scope="module")
def trained(params, paths):
    """Write the outputs of train and evaluate for a model with the given bias."""

    def write(bias):
        arguments = {"in_channels": 3, "num_classes": 1, **params.model.model_dump()}
        model = build_model(**arguments)
        model.final.bias.data.fill_(bias)
        paths.model.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), paths.model / "model.safetensors")
        card = {
            "model": arguments,
            "input": {"size": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
            "classes": ["lesion"],
            "threshold": 0.5,
            "data_fingerprint": open_packed(paths.prepared, paths.splits).fingerprint,
        }
        (paths.model / "model.json").write_text(json.dumps(card))
        history = "epoch,lr,train_loss,val_iou\n1,0.001,1.2,0.1\n2,0.0005,1.1,0.2\n"
        (paths.model / "history.csv").write_text(history)
        paths.metrics.parent.mkdir(exist_ok=True)
        weights = sha256_of(paths.model / "model.safetensors")
        metrics = {"iou": {"mean": bias}, "images": 3, "checkpoint": weights}
        paths.metrics.write_text(json.dumps(metrics))

    return write


def _seen(params, paths):
    """What a training leaves that was followed up to its first epoch."""
    packed = open_packed(paths.prepared, paths.splits)
    with live_run(params, paths, packed, "squares-0123") as live:
        live.report({"epoch": 1.0, "val_iou": 0.1, "train_loss": 1.2})
        live.trained(paths.model / "model.safetensors")


@pytest.fixture(scope="module")
def history(params, paths, trained):
    """Three models in turn: nothing, everything, nothing again but another."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    for bias in (NOTHING, EVERYTHING, NOTHING + 1):
        trained(bias)
        if bias == NOTHING + 1:
            _seen(params, paths)
        register.run(params, paths)
    return Registry(paths.root, "kmunet-squares")


def test_the_gate_promotes_the_better_and_keeps_the_worse_as_challenger(history):
    assert int(history.alias("champion").version) == 2
    assert int(history.alias("challenger").version) == 3
    reasons = [history.get(version).tags["gate"] for version in "123"]
    assert reasons[0].startswith("first model: mean iou 0.0000")
    assert "on the same 3 images: gain +0." in reasons[1]
    assert "on the same 3 images: gain -0." in reasons[2]


def test_a_version_carries_its_evidence(history, paths):
    version = history.get("2")
    run = history.client.get_run(version.run_id)
    packed = open_packed(paths.prepared, paths.splits)
    assert version.tags["data_fingerprint"] == packed.fingerprint
    assert run.data.params["train.lr"] == "0.001"
    assert run.data.metrics["test.iou.mean"] == EVERYTHING
    assert run.data.metrics["val_iou"] == 0.2
    assert run.inputs.dataset_inputs[0].dataset.name == "squares"
    top = {item.path for item in history.client.list_artifacts(run.info.run_id)}
    assert {"report", "checkpoint", "environment.txt", "params.yaml"} <= top


def test_the_run_of_the_training_is_the_versions(history):
    run = history.client.get_run(history.get("3").run_id)
    assert (run.info.run_name, run.info.status) == ("squares-0123", "FINISHED")
    assert {"training", "identity"} <= run.data.tags.keys()
    assert run.data.metrics["test.iou.mean"] == NOTHING + 1
    curve = history.client.get_metric_history(run.info.run_id, "val_iou")
    assert [(point.step, point.value) for point in curve] == [(1, 0.1), (2, 0.2)]


def test_registering_again_makes_no_second_version(history, params, paths):
    before = paths.registration.read_bytes()
    register.run(params, paths)
    assert len(history.client.search_model_versions("name='kmunet-squares'")) == 3
    assert paths.registration.read_bytes() == before


def test_other_parameters_are_another_version(history, params, paths):
    """Even where they end in the same weights: each training has its own record."""
    train = params.train.model_copy(update={"epochs": 99})
    register.run(params.model_copy(update={"train": train}), paths)
    assert int(history.alias("challenger").version) == 4
    run = history.client.get_run(history.get("4").run_id)
    assert run.data.params["train.epochs"] == "99"
    assert run.data.tags["training_run"] == history.get("3").run_id
    register.run(params, paths)
    assert int(history.alias("challenger").version) == 3


CONSUMER = """
import mlflow, numpy as np, pandas as pd, sys
from pathlib import Path
from PIL import Image
model = mlflow.pyfunc.load_model("models:/kmunet-squares/2")
import kmunet
print(kmunet.__file__)
grey = np.array(Image.open(sys.argv[1]))
print(model.predict(grey).shape, model.predict(grey).dtype, model.predict(grey).min())
print(model.predict(np.zeros((33, 57, 3), np.uint8)).shape)
print(model.predict(np.zeros((2, 64, 32, 3), np.uint8)).shape)
print([p.shape for p in model.predict([grey, grey[:7, :9]])])
files = pd.DataFrame({"image": [Path(name).read_bytes() for name in sys.argv[1:]]})
print([np.shape(p) for p in model.predict(files)])
try:
    model.predict(np.zeros((8, 8, 3)))
except Exception as error:
    print("uint8" in str(error))
"""


def test_a_consumer_without_our_source_gets_probabilities(history, paths, tmp_path):
    """In an empty folder: the model's own copy of the library is what is imported."""
    uri = f"sqlite:///{paths.root / '.kmunet' / 'mlflow.db'}"
    image = paths.raw / "images" / "0.png"
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned by a quarter
    Image.open(image).save(tmp_path / "turned.jpg", exif=exif)
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, str(image), "turned.jpg"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "mlartifacts" in lines[0]
    assert lines[1] == "(40, 48) float32 1.0"
    assert lines[2:5] == ["(33, 57)", "(2, 64, 32)", "[(40, 48), (7, 9)]"]
    assert lines[5:] == ["[(40, 48), (48, 40)]", "True"]


def test_rollback_puts_the_champion_before_back(history, params, paths, capsys):
    rollback.run(params, paths)
    assert int(history.alias("champion").version) == 1
    assert "champion is version 1 again" in capsys.readouterr().out
    with pytest.raises(ServiceError, match="version 1 is the first champion"):
        rollback.run(params, paths)


def test_outputs_that_are_missing_are_named(params, paths):
    other = Paths(paths.root, "squares")
    hidden = other.metrics.rename(other.metrics.with_suffix(".away"))
    with pytest.raises(ServiceError, match=r"squares\.json: no such file; run the"):
        register.run(params, other)
    hidden.rename(other.metrics)


@pytest.mark.parametrize(
    ("key", "file", "told"),
    [
        ("data_fingerprint", "models/squares/model.json", "trained on other data than"),
        ("checkpoint", "metrics/squares.json", "measured on other weights than those"),
    ],
)
def test_outputs_of_other_trainings_are_told_apart(params, paths, key, file, told):
    """As after `python -m pipelines.train` alone."""
    path = paths.root / file
    content = path.read_text()
    path.write_text(json.dumps(json.loads(content) | {key: "of another"}))
    try:
        with pytest.raises(
            CheckpointError, match=rf"{told}.*; run `dvc repro register"
        ):
            register.run(params, paths)
    finally:
        path.write_text(content)


def test_flatten_and_numbers():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": True, "e": None}
    assert flatten(nested) == {"a.b": 1, "a.c": [1, 2], "d": True, "e": None}
    assert numbers(nested, "test") == {"test.a.b": 1.0}


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        ("km_unet", set()),
        ("unet_plus_plus", {"monai"}),
        ("swin_unetr", {"monai", "einops"}),
    ],
)
def test_a_version_requires_what_its_network_imports(model, needed):
    names = {line.split("==")[0] for line in requirements(model)}
    assert names & {"monai", "einops"} == needed
    assert {"torch", "numpy", "safetensors"} <= names


def test_a_champion_is_not_compared_on_images_that_it_has_learnt_from(
    history, params, paths, trained, monkeypatch
):
    """Another seed of the split: most test images were the champion's own to learn."""
    before = "1"  # it finds nothing, whatever the tests before have promoted
    history.set_alias("champion", before)
    other = params.split.model_copy(update={"seed": 5, "test": 0.5, "validation": 0.2})
    params = params.model_copy(update={"split": other})
    split.run(params, paths)
    trained(EVERYTHING)
    register.run(params, paths)
    gate = history.alias("challenger").tags["gate"]
    assert re.match(r"the champion learnt from \d+ of the 10 test images", gate)
    assert str(history.alias("champion").version) == before
    monkeypatch.setattr(promotion, "FEWEST", 1)
    trained(EVERYTHING + 1)
    register.run(params, paths)
    newest = history.alias("challenger")
    left_out = re.search(r"learnt from them: (\d+)$", newest.tags["gate"])
    assert left_out
    compared = f"on the same {10 - int(left_out[1])} images"
    assert compared in newest.tags["gate"]
    assert history.alias("champion").version == newest.version
