"""Damaged archives and images: a DataError that names the file, or right pixels.

PNG and zip have checksums, so damage that is accepted must have left the pixels as
they were; formats without may change pixels unseen, but nothing else may happen.
"""

import io
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.decode import decode_image
from kmunet.data.integrity import examine
from kmunet.data.masks import INSTANCES, class_form, decode_mask
from kmunet.data.sources import open_source
from kmunet.errors import DataError

ROUNDS = 150


def picture(channels=3):
    grey = np.add.outer(np.arange(40) * 3, np.arange(48) * 2).astype(np.uint8)
    return grey if channels == 1 else np.dstack([grey, grey[::-1], 255 - grey])


def encode(array, kind, **options):
    buffer = io.BytesIO()
    if kind == "tifffile":
        tifffile.imwrite(buffer, array, **options)
    else:
        Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def mutate(data, random):
    """Flip, cut, double or overwrite some bytes."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(0, len(data)))
        action = random.integers(0, 5)
        if action == 0:
            data[place] ^= 1 << int(random.integers(0, 8))
        elif action == 1:
            data[place] = int(random.integers(0, 256))
        elif action == 2:
            del data[place : place + int(random.integers(1, 30))]
        elif action == 3:
            data[place:place] = data[place : place + int(random.integers(1, 30))]
        elif len(data) > 60:
            del data[max(20, place) :]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


CVC = {"photometric": "minisblack", "planarconfig": "contig"}
FORMS = {
    "png": (picture(), "PNG", {}),
    "png grey": (picture(1), "PNG", {}),
    "png 16": (picture(1).astype(np.uint16) * 257, "PNG", {}),
    "bmp": (picture(), "BMP", {}),
    "jpeg": (picture(), "JPEG", {}),
    "tiff": (picture(), "TIFF", {}),
    "tiff lzw": (picture(), "TIFF", {"compression": "tiff_lzw"}),
    "tiff cvc": (picture(), "tifffile", CVC),
    "gif": (picture(1), "GIF", {}),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("form", FORMS)
def test_damaged_images(form):
    array, kind, options = FORMS[form]
    data = encode(array, kind, **options)
    whole = decode_image(data, "x")
    random = np.random.default_rng(list(form.encode()))
    messages = []
    for _ in range(ROUNDS):
        broken = mutate(data, random)
        try:
            pixels = decode_image(broken, "some.png")
        except DataError as error:
            messages.append(str(error))
        else:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            if kind == "PNG":
                np.testing.assert_array_equal(pixels, whole)
    assert len(messages) > ROUNDS / 10
    assert all(message.startswith("some.png: ") for message in messages)


@pytest.mark.parametrize(
    "form", [class_form(("a",), ()), INSTANCES, class_form(("a", "b"), (3, 7))]
)
def test_damaged_masks(form):
    values = np.zeros((40, 48), np.uint8)
    values[5:20, 5:20] = 3 if form.values else 255
    data = encode(values, "PNG")
    whole, _ = decode_mask(data, "m", form)
    random = np.random.default_rng(len(form.values))
    for _ in range(ROUNDS):
        try:
            mask, _ = decode_mask(mutate(data, random), "m", form)
        except DataError:
            continue
        np.testing.assert_array_equal(mask, whole)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A small one of each kind, deflated and stored."""
    layouts = {
        "busi": ["benign/benign ({}).png", "benign/benign ({})_mask.png"],
        "cvc": ["PNG/Original/{}.png", "PNG/Ground Truth/{}.png"],
        "glas": ["W/train_{}.png", "W/train_{}_anno.png"],
        "folder": ["x/images/{}.png", "x/masks/{}.png"],
        "isic2018": ["ISIC2018_Task1-2_Training_Input/ISIC_000000{}.png",
                     "ISIC2018_Task1_Training_GroundTruth/ISIC_000000{}_segmentation.png"],
    }  # fmt: skip
    found = {}
    mask = np.zeros((40, 48), np.uint8)
    mask[5:20, 5:20] = 255
    for kind, names in layouts.items():
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", method) as file:
                for number in (1, 2, 3):
                    image = np.roll(picture(), number, 0)
                    file.writestr(names[0].format(number), encode(image, "PNG"))
                    file.writestr(names[1].format(number), encode(mask, "PNG"))
            found[kind, method] = buffer.getvalue()
    return found


def shas(kind, path):
    with open_source(kind, path) as source:
        outcomes = [examine(pair) for pair in source.pairs()]
    for outcome in outcomes:
        if isinstance(outcome, DataError):
            raise outcome
    return {(o.record.id, o.record.sha256) for o in outcomes}


@pytest.mark.parametrize("kind", ["busi", "cvc", "glas", "folder", "isic2018"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_archives(archives, tmp_path, kind, method):
    path = tmp_path / "set.zip"
    path.write_bytes(archives[kind, method])
    contents = {sha for _, sha in shas(kind, path)}
    random = np.random.default_rng([method, *kind.encode()])
    refused = 0
    for _ in range(60):
        path.write_bytes(mutate(archives[kind, method], random))
        try:
            found = shas(kind, path)
        except DataError:
            refused += 1
        else:  # a name may be harmed where its record has no checksum, never pixels
            assert {sha for _, sha in found} <= contents
    assert refused > 20
