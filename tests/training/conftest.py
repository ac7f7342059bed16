"""A model and data small enough to train in a second, and params to change."""

import sys
from pathlib import Path

import pytest
import yaml

from kmunet.config import parse_params

sys.path.insert(0, str(Path(__file__).parent))  # child processes find runs by name
import runs


@pytest.fixture
def params():
    """Return params.yaml's train section with changes."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())

    def change(**changes):
        small = {"epochs": 2, "batch_size": 4, "threads": 1, "kan_lr": 1e-3}
        return parse_params(raw | {"train": raw["train"] | small | changes}).train

    return change


@pytest.fixture
def model():
    return runs.small_model()


@pytest.fixture
def data():
    return runs.squares()
