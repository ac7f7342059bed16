"""The paper's pooled IoU, worked out by hand and against the per-image one."""

import numpy as np
import pytest

from kmunet.evaluation import pooled_iou, score_image

RNG = np.random.default_rng(11)
TRUTHS = RNG.random((19, 8, 8)) > 0.6
PREDS = TRUTHS ^ (RNG.random((19, 8, 8)) > 0.9)


def test_by_hand():
    # Batch 1: 1 of 2 pixels; batch 2: 0 of 1; weights 2 and 1.
    truths = np.zeros((3, 1, 2), bool)
    preds = np.zeros((3, 1, 2), bool)
    truths[0] = [[True, True]]
    preds[0] = [[True, False]]
    preds[2] = [[False, True]]
    first, second = (1 + 1e-5) / (2 + 1e-5), 1e-5 / (1 + 1e-5)
    iou, dice = pooled_iou(preds, truths, batch_size=2)
    assert iou == pytest.approx((2 * first + second) / 3, rel=1e-12)
    dices = [2 * x / (1 + x) for x in (first, second)]
    assert dice == pytest.approx((2 * dices[0] + dices[1]) / 3, rel=1e-12)


def test_batches_of_one_are_the_mean_over_images():
    rows = [score_image(p, t) for p, t in zip(PREDS, TRUTHS, strict=True)]
    iou, dice = pooled_iou(PREDS, TRUTHS, batch_size=1)
    assert iou == pytest.approx(np.mean([row["iou"] for row in rows]), abs=1e-5)
    assert dice == pytest.approx(np.mean([row["dice"] for row in rows]), abs=1e-5)


def test_the_last_batch_counts_by_its_size():
    parts = [slice(0, 8), slice(8, 16), slice(16, 19)]
    ious = [pooled_iou(PREDS[part], TRUTHS[part])[0] for part in parts]
    assert pooled_iou(PREDS, TRUTHS)[0] == pytest.approx(np.dot(ious, [8, 8, 3]) / 19)


def test_a_false_alarm_beside_a_large_lesion_nearly_vanishes():
    truths, preds = np.zeros((2, 2, 10, 10), bool)
    truths[0] = preds[0] = True
    preds[1, 0, 0] = True
    rows = [score_image(p, t) for p, t in zip(preds, truths, strict=True)]
    assert np.mean([row["iou"] for row in rows]) == 0.5
    assert pooled_iou(preds, truths)[0] == pytest.approx(100 / 101, abs=1e-6)


def test_two_empty_masks_agree():
    none = np.zeros((4, 5, 5), bool)
    assert pooled_iou(none, none) == (1.0, 1.0)


def test_refuses_no_images():
    with pytest.raises(ValueError, match=r"must both be \(N, H, W\)"):
        pooled_iou(PREDS[:0], TRUTHS[:0])
