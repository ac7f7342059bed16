"""Native size: exact for every format; the user's own bytes where they are small."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
from kmunet.errors import DataError

SAMPLES = {
    "busi": "Dataset_BUSI_with_GT",
    "cvc": "CVC-ClinicDB",
    "glas": "Warwick QU Dataset (Released 2016_07_08)",
}


def assert_exact(source, packed):
    assert len(packed) == len(source.matched)
    for row, pair in enumerate(source.matched):
        for own, read in zip(packed.native(row), pair.read(), strict=True):
            assert own.dtype == read.dtype == np.uint8
            np.testing.assert_array_equal(own, read)


@pytest.mark.parametrize("kind", SAMPLES)
def test_png_tiff_and_bmp_as_first_downloaded(real_data, tmp_path, kind):
    path = real_data / "original-format-samples" / SAMPLES[kind]
    with open_source(kind, path) as source:
        packed = write_packed(tmp_path / "set", source, [32], native=True)
        assert_exact(source, packed)


def test_jpeg_keeps_its_own_bytes(real_data, tmp_path):
    root = real_data / "original-format-samples"
    parts = [root / f"ISIC-2017_Validation_{n}" for n in ("Data", "Part1_GroundTruth")]
    with open_source("isic2017", parts) as source:
        packed = write_packed(tmp_path / "set", source, [32], native=True)
        assert_exact(source, packed)
        kept = (packed.folder / "native" / "pairs-00000.bin").read_bytes()
        for pair in source.matched:
            assert source.files.read(pair.image) in kept


def _encoded(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_awkward_forms(tmp_path):
    """16 bits, palettes, alpha, EXIF turns, odd sides; in files that roll over."""
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (33, 47, 3), np.uint8)
    deep = random.integers(0, 2**16, (33, 47), np.uint16)
    exif = Image.Exif()
    exif[274] = 6
    images = {
        "deep.png": _encoded(deep, "PNG"),
        "alpha.png": _encoded(np.dstack([rgb, rgb[..., 0]]), "PNG"),
        "grey.bmp": _encoded(rgb[..., 0], "BMP"),
        "turned.jpg": _encoded(rgb, "JPEG", exif=exif),
        "turned.png": _encoded(rgb, "PNG", exif=exif),
    }
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, rgb.astype(np.uint16) * 257, photometric="rgb")
    images["deep.tif"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(rgb).quantize(16).save(buffer, "PNG")
    images["palette.png"] = buffer.getvalue()
    for kind in ("images", "masks"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
    for number, (name, data) in enumerate(images.items()):
        stem, suffix = f"n{number}", name.split(".")[1]
        (tmp_path / "raw" / "images" / f"{stem}.{suffix}").write_bytes(data)
        mask = np.zeros((33, 47), np.uint8)
        mask[number:9, 4:] = 255
        turned = mask.T if name.startswith("turned") else mask
        Image.fromarray(turned).save(tmp_path / "raw" / "masks" / f"{stem}.png")
    with open_source("folder", tmp_path / "raw") as source:
        packed = write_packed(
            tmp_path / "set", source, [32], native=True, shard_bytes=6000
        )
        assert_exact(source, packed)
    assert len(packed.files) > 1
    assert packed.index["native"]["file"].max() == len(packed.files) - 1


def test_without_it_the_remedy_is_named(packed):
    with pytest.raises(DataError, match=r"set prepare\.native to true"):
        packed.native(0)
