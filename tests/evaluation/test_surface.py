"""HD95 against MONAI, against distances that one can count, and with empty masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance

from kmunet.evaluation.surface import hd95, outline

pytestmark = pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")

some = arrays(np.bool_, st.just((9, 11))).filter(np.any)


def monai_hd(pred: np.ndarray, truth: np.ndarray, percentile: float) -> float:
    tensors = [torch.from_numpy(x)[None, None].float() for x in (pred, truth)]
    distance = compute_hausdorff_distance(
        *tensors, include_background=True, percentile=percentile
    )
    return distance.item()


def square(top: int, left: int, side: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@settings(deadline=None)
@given(some, some, st.sampled_from([50.0, 95.0, 100.0]))
def test_equals_monai(pred, truth, percentile):
    expected = monai_hd(pred, truth, percentile)
    assert hd95(pred, truth, percentile) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None)
@given(some, some)
def test_is_symmetric_and_zero_for_equal_masks(pred, truth):
    assert hd95(pred, truth) == hd95(truth, pred)
    assert hd95(truth, truth) == 0.0


def test_a_shifted_pixel_is_as_far_as_it_was_shifted():
    assert hd95(square(3, 4, 1), square(6, 8, 1)) == pytest.approx(5.0)


def test_squares_of_one_centre_lie_a_margin_apart():
    # The corners, sqrt(2) * 5 away, are 4 of 76 pixels: more than 5 per cent.
    expected = monai_hd(square(10, 10, 20), square(15, 15, 10), 95.0)
    assert hd95(square(10, 10, 20), square(15, 15, 10)) == pytest.approx(expected)
    assert 5.0 <= expected <= 5.0 * math.sqrt(2.0)


def test_masks_at_the_image_border_have_an_outline_there():
    full = np.ones((5, 6), bool)
    assert outline(full).sum() == 5 * 6 - 3 * 4
    assert hd95(full, full) == 0.0


def test_empty_masks():
    none = np.zeros((40, 40), bool)
    assert hd95(none, none) == 0.0
    assert math.isnan(hd95(none, square(3, 3, 5)))
    assert math.isnan(hd95(square(3, 3, 5), none))
