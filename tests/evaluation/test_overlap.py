"""Overlap scores against MONAI and scikit-learn, and the rule for empty masks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_iou
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from kmunet.evaluation import overlap

masks = arrays(np.bool_, st.just((6, 7)))
NONE = np.zeros((6, 7), bool)
SOME = NONE.copy()
SOME[2:4, 2:5] = True


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


def scores(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    counts = overlap.count(pred, truth)
    names = ("iou", "dice", "precision", "recall", "specificity")
    return {name: getattr(overlap, name)(counts) for name in names}


@given(masks, masks)
def test_counts_are_those_of_scikit_learn(pred, truth):
    ours = overlap.count(pred, truth)
    theirs = confusion_matrix(truth.ravel(), pred.ravel(), labels=[False, True])
    assert [[ours.tn, ours.fp], [ours.fn, ours.tp]] == theirs.tolist()


@given(masks, masks)
def test_iou_and_dice_are_those_of_monai(pred, truth):
    options = {"include_background": True, "ignore_empty": False}
    ours = scores(pred, truth)
    iou = compute_iou(one_hot(pred), one_hot(truth), **options).item()
    dice = compute_dice(one_hot(pred), one_hot(truth), **options).item()
    assert ours["iou"] == pytest.approx(iou, abs=1e-6)
    assert ours["dice"] == pytest.approx(dice, abs=1e-6)


@given(masks.filter(np.any), masks.filter(np.any))
def test_precision_recall_specificity_are_those_of_scikit_learn(pred, truth):
    ours, flat = scores(pred, truth), (truth.ravel(), pred.ravel())
    assert ours["precision"] == pytest.approx(precision_score(*flat))
    assert ours["recall"] == pytest.approx(recall_score(*flat))
    reverse = recall_score(*flat, pos_label=False, zero_division=1.0)
    assert ours["specificity"] == pytest.approx(reverse)


@given(masks, masks)
def test_dice_follows_from_iou_image_by_image(pred, truth):
    ours = scores(pred, truth)
    assert ours["dice"] == pytest.approx(2 * ours["iou"] / (1 + ours["iou"]))


@pytest.mark.parametrize(
    ("pred", "truth", "outcome", "value"),
    [
        (NONE, NONE, "empty", 1.0),
        (SOME, NONE, "false_alarm", 0.0),
        (NONE, SOME, "miss", 0.0),
        (SOME, SOME, "segmented", 1.0),
        (~SOME, SOME, "segmented", 0.0),
    ],
)
def test_empty_masks_by_the_written_rule(pred, truth, outcome, value):
    assert overlap.outcome(overlap.count(pred, truth)) == outcome
    ours = scores(pred, truth)
    for name in ("iou", "dice", "precision", "recall"):
        assert ours[name] == value, name


def test_specificity_is_always_its_own_ratio():
    assert scores(SOME, NONE)["specificity"] == pytest.approx(36 / 42)
    assert scores(NONE, SOME)["specificity"] == 1.0
    assert scores(SOME, ~NONE)["specificity"] == 1.0  # no background to get wrong


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (SOME.astype(float), SOME, "pred must be a bool array"),
        (SOME, SOME[None], "truth must be a bool array"),
        (SOME, SOME[:, :3], r"pred is \(6, 7\) but truth is \(6, 3\)"),
    ],
)
def test_refuses_what_is_not_two_masks(pred, truth, message):
    with pytest.raises(ValueError, match=message):
        overlap.count(pred, truth)
