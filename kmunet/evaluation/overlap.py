"""Overlap of one predicted mask with its truth, and the rule for empty masks.

IoU = TP / (TP + FP + FN); Dice = 2 TP / (2 TP + FP + FN); precision = TP / (TP + FP);
recall = TP / (TP + FN); specificity = TN / (TN + FP). docs/metrics.md has the rule.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Outcome = Literal["segmented", "miss", "false_alarm", "empty"]


@dataclass(frozen=True)
class Counts:
    """Pixels of one image by prediction and truth."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def truth(self) -> int:
        """Foreground pixels of the truth."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """Foreground pixels of the prediction."""
        return self.tp + self.fp


def count(pred: Mask, truth: Mask) -> Counts:
    """Confusion counts of two masks, bool (H, W). ValueError if they do not match."""
    check_masks(pred, truth)
    tp = int(np.count_nonzero(pred & truth))
    fp = int(np.count_nonzero(pred)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=pred.size - tp - fp - fn)


def check_masks(pred: Mask, truth: Mask) -> None:
    """Raise ValueError unless both are bool arrays (H, W) of one shape."""
    for name, mask in (("pred", pred), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(
                f"{name} must be a bool array (H, W), got {mask.dtype} {mask.shape}"
            )
    if pred.shape != truth.shape:
        raise ValueError(f"pred is {pred.shape} but truth is {truth.shape}")


def outcome(counts: Counts) -> Outcome:
    """What happened on an image, told by which of the two masks is empty."""
    if counts.truth:
        return "segmented" if counts.predicted else "miss"
    return "false_alarm" if counts.predicted else "empty"


def iou(counts: Counts) -> float:
    """Intersection over union (Jaccard index)."""
    return _share(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def dice(counts: Counts) -> float:
    """Dice coefficient, the F1 score of the pixels."""
    return _share(2 * counts.tp, counts.truth + counts.predicted, counts)


def precision(counts: Counts) -> float:
    """Share of the predicted pixels that are right."""
    return _share(counts.tp, counts.predicted, counts)


def recall(counts: Counts) -> float:
    """Share of the true pixels that are found (sensitivity)."""
    return _share(counts.tp, counts.truth, counts)


def specificity(counts: Counts) -> float:
    """Share of the background that is left alone; 1 where there is no background."""
    background = counts.tn + counts.fp
    return counts.tn / background if background else 1.0


def _share(part: int, whole: int, counts: Counts) -> float:
    # Two empty masks agree perfectly; one empty mask shares nothing with the other.
    if outcome(counts) == "empty":
        return 1.0
    return part / whole if whole else 0.0
