"""The registered model on files: the pixels that it sees are those of training."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from kmunet.errors import DataError
from kmunet.inference import Predictor
from pipelines.pyfunc import SegmentationModel

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned by a quarter
    data = save(Image.fromarray(PIXELS), "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        return data, np.rot90(np.asarray(image), 3)


def tiff():
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, photometric="minisblack", planarconfig="contig")
    return file.getvalue(), PIXELS  # Pillow refuses it


def deep():
    grey = PIXELS[:, :, 0]
    return save(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), grey


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SegmentationModel()
    model.predictor = Predictor(torch.nn.Conv2d(3, 1, 1), 32, [0.5] * 3, [0.2] * 3)
    return model


@pytest.mark.parametrize("make", [deep, turned, tiff])
@pytest.mark.parametrize("send", [bytes, lambda data: base64.b64encode(data).decode()])
def test_a_file_is_decoded_as_in_training(model, make, send):
    data, pixels = make()
    (found,) = model.predict(None, pd.DataFrame({"image": [send(data)]}))
    expected = model.predict(None, pixels.copy())
    assert expected.std() > 0.01
    np.testing.assert_array_equal(np.float32(found), expected)


@pytest.mark.parametrize(("classes", "maps"), [(1, ()), (2, (3,))])
def test_an_empty_batch_gives_an_empty_one(classes, maps):
    model = SegmentationModel()
    network = torch.nn.Conv2d(3, 1 if classes == 1 else classes + 1, 1)
    model.predictor = Predictor(network, 32, [0.5] * 3, [0.2] * 3)
    found = model.predict(None, np.zeros((0, 24, 32, 3), np.uint8))
    assert (found.shape, found.dtype) == ((0, *maps, 24, 32), np.float32)
    one = model.predict(None, PIXELS[None].copy())
    assert one.shape[1:] == found.shape[1:]
    with pytest.raises(DataError, match="expects uint8"):
        model.predict(None, np.zeros((0, 24, 32, 3)))


@pytest.mark.parametrize("cell", [None, float("nan"), 5, pd.NA])
def test_a_cell_without_a_file_is_named(model, cell):
    table = pd.DataFrame({"image": [deep()[0], cell]}, index=["a", "b"], dtype=object)
    with pytest.raises(DataError, match=r"column 'image', row b: expects the bytes"):
        model.predict(None, table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"picture": [b"x"], "id": [1]}, "no column 'image', only: picture, id"),
        ({"image": [b"x"]}, "column 'image', row 0: cannot be read as an image"),
        ({"image": ["not base64"]}, r"column 'image', row 0: not base64 \("),
    ],
)
def test_a_table_that_cannot_be_read_says_where(model, table, message):
    with pytest.raises(DataError, match=message):
        model.predict(None, pd.DataFrame(table))


def test_a_table_without_rows_gives_nothing(model):
    assert model.predict(None, pd.DataFrame({"image": []})) == []
