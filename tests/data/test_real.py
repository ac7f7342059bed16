"""The real archives, with the counts and traps that are known of them."""

import io
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.cvc import sequence
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


def test_cvc_tiffs_keep_their_colours(real_data):
    path = real_data / "original-format-samples" / "CVC-ClinicDB"
    with (
        open_source("cvc", path) as tiffs,
        open_source("cvc", real_data / "CVC-ClinicDB.zip") as pngs,
    ):
        same = {pair.id: pair for pair in pngs.pairs()}
        assert len(tiffs.pairs()) == 8
        for pair in tiffs.pairs():
            image, mask = pair.read()
            raw = tifffile.imread(path / pair.image)
            np.testing.assert_array_equal(image, raw)
            assert (image[..., 0] != image[..., 1]).any()
            for ours, other in zip((image, mask), same[pair.id].read(), strict=True):
                np.testing.assert_array_equal(ours, other)
    assert tiffs.notes[0] == "CVC-ClinicDB: frames: 8 of 612 images are here"


def test_cvc_sequences_and_grey_edges(real_data):
    with open_source("cvc", real_data / "CVC-ClinicDB.zip") as source:
        records = check(source)
        pair = next(pair for pair in source.pairs() if pair.id == "1")
        stored = np.asarray(Image.open(io.BytesIO(source.files.read(pair.masks[0]))))
        _, mask = pair.read()
    assert len(records) == 612
    assert sum(record.grey_edges for record in records) == 138
    np.testing.assert_array_equal(mask, stored > 127)
    assert (stored > 0).sum() > (stored > 127).sum()
    assert len({pair.group for pair in source.matched}) == 29
    assert source.notes == ()


def test_cvc_sequences_are_those_of_its_readme(real_data):
    path = real_data / "original-format-samples" / "CVC-ClinicDB" / "README.txt"
    text = path.read_text(encoding="latin-1")
    rows = re.findall(r"(\d+) to +(\d+)\D+(\d+)", text)
    assert len(rows) == 29
    for first, last, number in rows:
        assert sequence(int(first)) == sequence(int(last)) == int(number)


def test_glas_is_whole(real_data):
    path = real_data / "warwick_qu_dataset_released_2016_07_08.zip"
    with open_source("glas", path) as source:
        records = check(source)
        pairs = source.pairs()
    assert len(records) == 165
    assert source.notes == ()
    assert Counter(pair.split for pair in pairs) == {"train": 85, "test": 80}
    assert Counter(pair.category for pair in pairs) == {"benign": 74, "malignant": 91}
    assert len({pair.group for pair in pairs}) == 16
    assert min(record.foreground for record in records) > 0.0


def test_glas_instances_are_foreground(real_data):
    root = real_data / "original-format-samples"
    path = root / "Warwick QU Dataset (Released 2016_07_08)"
    with open_source("glas", path) as source:
        for pair in source.pairs():
            ids = np.asarray(Image.open(path / pair.masks[0]))
            assert 1 < ids.max() < 128  # mask / 255 > 0.5 would be empty
            np.testing.assert_array_equal(pair.read()[1], ids > 0)
    assert [pair.id for pair in source.matched] == ["testA_1", "testB_3", "train_1"]


PARTS = [
    f"ISIC-2017_{split}_{kind}.zip"
    for split in ("Training", "Validation")
    for kind in ("Data", "Part1_GroundTruth")
]


def test_isic_2017_from_its_archives(real_data):
    with open_source("isic2017", [real_data / name for name in PARTS]) as source:
        records = check(source)
        pairs = source.pairs()
    assert len(records) == 2150
    assert Counter(pair.split for pair in pairs) == {"train": 2000, "validation": 150}
    assert source.notes == ("ISIC 2017 part 1: test: 0 of 600 images are here",)
    assert len({pair.id for pair in pairs}) == 2150


def test_isic_2017_masks_missing(real_data):
    with pytest.raises(SourceError, match=r"add ISIC-2017_Training_Part1_GroundTruth"):
        open_source("isic2017", real_data / PARTS[0])
    with pytest.raises(SourceError, match="150 validation masks, but none of"):
        open_source("isic2017", real_data / PARTS[3])


def test_isic_2017_as_first_downloaded_with_superpixels(real_data, tmp_path, save):
    root = real_data / "original-format-samples"
    for name in ("Data", "Part1_GroundTruth"):
        folder = f"ISIC-2017_Validation_{name}"
        shutil.copytree(root / folder, tmp_path / folder)
    for path in (tmp_path / "ISIC-2017_Validation_Data").glob("*.jpg"):
        path.parent.chmod(0o755)
        save(path.with_name(f"{path.stem}_superpixels.png"), np.zeros((9, 9, 3)))
    with open_source("isic2017", tmp_path) as source:
        records = check(source)
    assert [(r.width, r.height) for r in records] == [
        (1024, 768),
        (1024, 768),
        (2592, 1936),
        (2592, 1936),
    ]
    assert {pair.split for pair in source.matched} == {"validation"}


@pytest.mark.parametrize("kind", ["isic2018", "glas", "busi"])
def test_cvc_is_no_other_data_set(real_data, kind):
    with pytest.raises(SourceError, match="this is not"):
        open_source(kind, real_data / "CVC-ClinicDB.zip")


@pytest.mark.parametrize(
    "name", ["CVC-ClinicDB.zip", "warwick_qu_dataset_released_2016_07_08.zip"]
)
def test_another_archive_is_not_busi(real_data, name):
    with pytest.raises(SourceError, match="this is not BUSI: found"):
        open_source("busi", real_data / name)
