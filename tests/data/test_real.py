"""The real archives, with the counts and traps that are known of them."""

import io
import shutil
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.integrity import check, warnings
from kmunet.data.sources import open_source
from kmunet.errors import SourceError


@pytest.fixture(scope="module")
def busi(real_data):
    with open_source("busi", real_data / "Dataset_BUSI.zip") as source:
        yield source


@pytest.fixture(scope="module")
def records(busi):
    return check(busi)


def test_busi_is_whole(busi, records):
    assert Counter(pair.category for pair in busi.pairs()) == {
        "benign": 437,
        "malignant": 210,
        "normal": 133,
    }
    assert sum(len(pair.masks) for pair in busi.pairs()) == 798
    assert sum(len(pair.masks) > 1 for pair in busi.pairs()) == 17
    empty = Counter(r.category for r in records if r.foreground == 0.0)
    assert empty == {"normal": 133}


def test_busi_masks_are_joined(busi):
    joined = 0
    for pair in busi.pairs():
        if len(pair.masks) == 1:
            continue
        _, mask = pair.read()
        parts = [_mask(busi, name) for name in pair.masks]
        np.testing.assert_array_equal(mask, np.any(parts, axis=0))
        joined += mask.sum() > max(part.sum() for part in parts)
    assert joined == 16  # one mask of benign (58) lies inside its other


def _mask(source, name):
    image = Image.open(io.BytesIO(source.files.read(name))).convert("RGB")
    return np.asarray(image)[:, :, 0] > 127


def test_busi_has_sixteen_images_in_colour(busi):
    coloured = 0
    for pair in busi.pairs():
        image, _ = pair.read()
        coloured += bool((image[..., 0] != image[..., 2]).any())
    assert coloured == 16


def test_busi_duplicate_is_found(records):
    by_id = {record.id: record for record in records}
    assert by_id["benign (433)"].image_sha256 == by_id["malignant (145)"].image_sha256
    notes = " ".join(warnings(records))
    assert "kept in one split: 1, benign (433) = malignant (145)" in notes


def test_busi_as_first_downloaded(real_data):
    path = real_data / "original-format-samples" / "Dataset_BUSI_with_GT"
    with open_source("busi", path) as source:
        found = {record.id: record for record in check(source)}
    assert len(found) == 11
    assert found["benign (195)"].foreground > 0
    assert found["normal (1)"].foreground == 0


def test_cvc_tiffs_in_folders_keep_their_colours(real_data, tmp_path):
    path = real_data / "original-format-samples" / "CVC-ClinicDB"
    shutil.copytree(path / "Original", tmp_path / "images")
    shutil.copytree(path / "Ground Truth", tmp_path / "masks")
    with open_source("folder", tmp_path) as source:
        records = check(source)
        image, _ = source.pairs()[0].read()
        first = source.pairs()[0].image
    assert len(records) == 8
    assert sum(record.grey_edges for record in records) >= 2
    np.testing.assert_array_equal(image, tifffile.imread(tmp_path / first))
    assert (image[..., 0] != image[..., 1]).any()


@pytest.mark.parametrize(
    "name", ["CVC-ClinicDB.zip", "warwick_qu_dataset_released_2016_07_08.zip"]
)
def test_another_archive_is_not_busi(real_data, name):
    with pytest.raises(SourceError, match="this is not BUSI: found"):
        open_source("busi", real_data / name)
