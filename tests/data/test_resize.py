"""Sizes, types, and that nothing shifts on the way down and back."""

import numpy as np
import pytest

from kmunet.data.resize import resize_image, resize_mask, resize_probabilities


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 24), (20, 30)])
def test_shapes_and_types(channels, height, width):
    image = np.zeros((20, 30, channels), np.uint8)
    resized = resize_image(image, height, width)
    assert resized.shape == (height, width, channels)
    assert resized.dtype == np.uint8


def test_shrinking_averages_areas():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    blocks = image.reshape(4, 2, 4, 2).mean((1, 3))
    assert np.abs(resize_image(image, 4, 4)[:, :, 0] - blocks).max() <= 0.5


def test_masks_stay_two_valued_and_centred():
    mask = np.zeros((60, 90), np.uint8)
    mask[18:42, 30:60] = 1
    small = resize_mask(mask, 20, 30)
    assert set(np.unique(small)) == {0, 1}
    rows, columns = np.nonzero(small)
    assert rows.mean() == pytest.approx(9.5)
    assert columns.mean() == pytest.approx(14.5)
    np.testing.assert_array_equal(resize_mask(small, 60, 90), mask)


def test_probabilities_come_back_to_native_size():
    values = np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(32, 0)
    native = resize_probabilities(values, 45, 64)
    assert native.shape == (45, 64)
    assert native.dtype == np.float32
    assert native.min() >= 0
    assert native.max() <= 1
    assert (np.diff(native[10]) >= 0).all()
    assert native.mean() == pytest.approx(0.5, abs=1e-5)


def test_the_same_size_is_the_same_array():
    image = np.zeros((8, 8, 3), np.uint8)
    assert resize_image(image, 8, 8) is image
