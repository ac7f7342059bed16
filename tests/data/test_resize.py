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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(100, 2048), (2048, 100), (20, 1024)])
def test_stripes_stay_grey_where_the_other_axis_grows(shape, channels):
    stripes = np.zeros((*shape, channels), np.uint8)
    for first in (1, 2):  # of each four
        stripes[np.s_[:, first::4] if shape[1] > shape[0] else np.s_[first::4]] = 255
    small = resize_image(stripes, 256, 256)
    assert small.shape == (256, 256, channels)
    assert np.abs(small - 127.5).max() <= 0.5


def test_each_axis_is_resized_as_it_is_alone():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    both = resize_image(image, 80, 20)
    np.testing.assert_array_equal(
        both, resize_image(resize_image(image, 40, 20), 80, 20)
    )


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
