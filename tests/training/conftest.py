"""A model and data small enough to train in a second, and params to change."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from kmunet.config import parse_params
from kmunet.models import build_model
from kmunet.training import TrainingData


class Squares:
    """Bright squares on noise; the sample depends on (epoch, position) alone."""

    def __init__(self, length, seed):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, position = key
        rng = np.random.default_rng([self.seed, position])
        image = rng.integers(0, 90, (3, 32, 32), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        top, left = rng.integers(2, 16, 2)
        mask[top : top + 12, left : left + 12] = 1
        image[:, mask > 0] += 120
        if epoch % 2:
            image, mask = image[:, :, ::-1].copy(), mask[:, ::-1].copy()
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}


@pytest.fixture
def params():
    """Return params.yaml's train section with changes."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())

    def change(**changes):
        small = {"epochs": 2, "batch_size": 4, "threads": 1, "kan_lr": 1e-3}
        raw["train"] |= small | changes
        return parse_params(raw).train

    return change


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("km_unet", widths=(32, 40, 48))


@pytest.fixture
def data():
    return TrainingData(Squares(16, 1), Squares(6, 2), (0.3,) * 3, (0.25,) * 3)
