"""A model folder as training writes it: tiny, seeded, with statistics of its own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kmunet.models import build_model

MODEL = {
    "name": "km_unet", "in_channels": 3, "num_classes": 1, "widths": [32, 40, 48],
    "kan": True, "ss2d": True, "attention": True,
}  # fmt: skip
INPUT = {"size": 32, "mean": [0.4, 0.3, 0.2], "std": [0.3, 0.2, 0.1]}


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Written once; a test that changes it takes `model_folder`."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(5)
    model = build_model(**MODEL)
    for module in model.modules():  # else the initial statistics let nothing through
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))
    save_file(model.state_dict(), folder / "model.safetensors")
    text = json.dumps({"model": MODEL, "input": INPUT, "threshold": 0.5})
    (folder / "model.json").write_text(text)
    (folder / "history.csv").write_text(
        "epoch,lr,train_loss,val_loss,val_iou,val_dice\n"
        "1,0.001,1.5,1.4,0.1,0.2\n2,0.001,1.25,1.3,0.2,0.3\n"
    )
    return folder


@pytest.fixture
def model_folder(trained, tmp_path) -> Path:
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path
