"""The gate's rule on scores of the same images."""

from pathlib import Path

import numpy as np
import pytest

from kmunet.config import GateParams, load_params
from kmunet.errors import ServiceError
from pipelines.gate import decide, scores

EVALUATE = load_params(Path(__file__).parents[2] / "params.yaml").evaluate


def _gate(min_gain=0.0, confidence=0.0):
    return GateParams(metric="iou", min_gain=min_gain, confidence=confidence)


OLD = np.tile([0.5, 0.6, 0.7, 0.4, 0.5, 0.6], 2)
UNEVEN = np.tile([0.4, -0.1, -0.1, -0.1, 0.0, 0.0], 2)


@pytest.mark.parametrize(
    ("new", "gate", "promoted"),
    [
        (OLD + 0.1, _gate(), True),
        (OLD, _gate(), False),  # equal is not better
        (OLD - 0.1, _gate(), False),
        (OLD + 0.01, _gate(min_gain=0.02), False),
        (OLD - 0.01, _gate(min_gain=-0.02), True),
        (OLD + 0.1, _gate(confidence=0.95), True),
        (OLD + UNEVEN, _gate(), True),
        (OLD + UNEVEN, _gate(confidence=0.95), False),
    ],
)
def test_decide(new, gate, promoted):
    assert decide(np.asarray(new), OLD, gate, EVALUATE).promote is promoted


def test_a_bound_needs_several_patients():
    one = ["patient"] * len(OLD)
    decision = decide(OLD + 0.1, OLD, _gate(confidence=0.95), EVALUATE, one)
    assert not decision.promote
    assert "of 1 independent groups" in decision.reason
    assert decide(OLD + 0.1, OLD, _gate(), EVALUATE, one).promote
    few = [f"patient {n // 2}" for n in range(len(OLD))]  # six
    decision = decide(OLD + 0.1, OLD, _gate(confidence=0.95), EVALUATE, few)
    assert "of 6 independent groups: a bound needs 10" in decision.reason


def test_chance_does_not_promote_by_default():
    gate = load_params(Path(__file__).parents[2] / "params.yaml").register_.gate
    assert not decide(OLD + UNEVEN, OLD, gate, EVALUATE).promote
    assert decide(OLD + 0.1, OLD, gate, EVALUATE).promote


def test_the_first_model_is_promoted():
    assert decide(OLD, None, _gate(min_gain=0.5), EVALUATE).promote


def test_scores_are_per_image_iou():
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[:, :2] = 1
    found = np.zeros((2, 4, 4), np.float32)
    found[0, :2] = 0.9
    found[1, 1:3] = 0.9
    one = ("lesion",)
    assert scores(found, masks, one, "iou", 0.5) == pytest.approx([1.0, 1 / 3])


def test_scores_of_classes_take_the_most_probable_one():
    masks = np.array([[[0, 1], [2, 2]]], np.uint8)
    found = np.zeros((1, 3, 2, 2), np.float32)
    found[0, 0, 0, 0] = found[0, 1, 0, 1] = found[0, 2, 1, 0] = found[0, 1, 1, 1] = 0.4
    both = ("gland", "tumour")
    assert scores(found, masks, both, "iou", 0.5) == pytest.approx([0.5])
    with pytest.raises(ServiceError, match="other classes than lesion"):
        scores(found, masks, ("lesion",), "iou", 0.5)
