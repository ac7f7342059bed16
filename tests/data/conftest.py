"""Small data sets on disk, and the real archives where they are."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kmunet.data.division import write_split
from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
from kmunet.data.synthetic import write_synthetic


@pytest.fixture(scope="session")
def real_data():
    """Folder of the real archives (shared/data/README.md says what is in it)."""
    value = os.environ.get("KMUNET_TEST_DATA")
    if not value:
        pytest.skip("KMUNET_TEST_DATA names no folder with the real archives")
    return Path(value)


@pytest.fixture
def save():
    """Write an array as an image file, making folders."""

    def _save(path, array, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)
        return path

    return _save


@pytest.fixture
def lesions(tmp_path):
    """Twenty synthetic pairs in images/ and masks/."""
    folder = tmp_path / "raw"
    write_synthetic(folder, images=20, size=40, seed=3)
    return folder


@pytest.fixture(scope="session")
def rules():
    """Rules of a split: a fifth each to select on and to test, but for `changes`."""

    def make(**changes):
        plain = {"protocol": "clean", "seed": 1, "validation": 0.2, "test": 0.2,
                 "folds": 1, "fold": 0, "official": True,
                 "stable": False}  # fmt: skip
        return SimpleNamespace(**{**plain, **changes})

    return make


@pytest.fixture(scope="session")
def packed(tmp_path_factory, rules):
    """Thirty synthetic pairs, prepared at 32 pixels and divided."""
    root = tmp_path_factory.mktemp("packed")
    write_synthetic(root / "raw", images=30, size=40, seed=5)
    with open_source("folder", root / "raw") as source:
        prepared = write_packed(root / "set", source, [32])
    return write_split(prepared, root / "split", rules(), {})
