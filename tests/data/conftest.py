"""Small data sets on disk, and the real archives where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmunet.data.integrity import check
from kmunet.data.sources import open_source
from kmunet.data.splits import split
from kmunet.data.store import write_packed
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
def packed(tmp_path_factory):
    """Thirty synthetic pairs, prepared at 32 pixels."""
    from dataclasses import replace
    from types import SimpleNamespace

    root = tmp_path_factory.mktemp("packed")
    write_synthetic(root / "raw", images=30, size=40, seed=5)
    with open_source("folder", root / "raw") as source:
        found = check(source)
        places = split(found, SimpleNamespace(seed=1, validation=0.2, test=0.2))
        records = [replace(r, split=s) for r, s in zip(found, places, strict=True)]
        return write_packed(root / "set", source.pairs(), records, 32, {})
