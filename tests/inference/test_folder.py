"""A model folder that is incomplete or broken is refused by file and key."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kmunet.errors import CheckpointError
from kmunet.inference import Predictor, read_history


def rewrite(folder, change) -> None:
    path = folder / "model.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file(model_folder, name):
    (model_folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file; .*dvc"):
        Predictor.load(model_folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_truncated_file(model_folder, name):
    path = model_folder / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=f"{name}: not "):
        Predictor.load(model_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model"), "key 'model' is missing"),
        (lambda s: s["model"].pop("name"), "key 'name' is missing"),
        (lambda s: s["model"].update(name="resnet"), "key 'model'.*resnet"),
        (lambda s: s["model"].update(depth=3), "key 'model'.*depth"),
        (lambda s: s["model"].update(num_classes=2), "'model.num_classes' is 2"),
        (lambda s: s["model"].update(in_channels=1), "'model.in_channels' is 1"),
        (lambda s: s["input"].pop("size"), "key 'size' is missing"),
        (lambda s: s["input"].update(size=0), "'input.size' must be"),
        (lambda s: s["input"].update(mean=[0.1]), "'input.mean' must be three"),
        (lambda s: s["input"].update(std=[0.1, 0.1, 0]), "'input.std' must be above"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_key(model_folder, change, message):
    rewrite(model_folder, change)
    with pytest.raises(CheckpointError, match=rf"model\.json: .*{message}"):
        Predictor.load(model_folder)


def test_weights_of_another_model(model_folder):
    path = model_folder / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file({**weights, name: torch.zeros(1, 2, 3)}, path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*do not fit"):
        Predictor.load(model_folder)


def test_history(trained):
    rows = read_history(trained / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["train_loss"] == 1.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "no column epoch"),
        ("epoch,train_loss,val_loss\n1,1,1\n", "no column val_iou"),
        ("epoch,train_loss,val_loss,val_iou\n1,1,1,x\n", "could not convert"),
        ("epoch,train_loss,val_loss,val_iou\n1,1\n", "float"),
    ],
)
def test_a_broken_history(tmp_path, text, message):
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"history\.csv: .*{message}"):
        read_history(path)
