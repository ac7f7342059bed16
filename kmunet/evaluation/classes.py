"""Scores of an image with several classes: each class's own, and their mean.

A class that neither truth nor prediction holds says nothing of an image and is left
out of its mean; docs/metrics.md has the rule. One class is the binary case itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.evaluation.bootstrap import bootstrap_interval
from kmunet.evaluation.summary import Row, score_image

Labels = NDArray[np.uint8]  # 0 the background, or the class
MEANS = ("iou", "dice", "precision", "recall", "specificity", "hd95")


def score_labels(pred: Labels, truth: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Scores of one image from two label maps (H, W) of the same `classes`.

    As `score_image`; with several classes iou, dice, precision, recall, specificity and
    hd95 are means over those that are there (hd95: NaN where that of any of them is),
    outcome and pixels are of any class, and `classes` has the scores of each by name.
    """
    anywhere = score_image(pred > 0, truth > 0)
    if len(classes) == 1:
        return anywhere
    own = {
        name: score_image(pred == value, truth == value)
        for value, name in enumerate(classes, 1)
    }
    there = [scores for scores in own.values() if scores["outcome"] != "empty"]
    found = {**anywhere, "classes": own}
    if there:
        for name in MEANS:
            found[name] = float(np.mean([scores[name] for scores in there]))
    return found


def summarize_classes(
    table: Sequence[Row], *, samples: int, confidence: float, seed: int
) -> dict[str, dict[str, Any]]:
    """By class: images with it, means over them with intervals, misses, false alarms.

    Empty for a table of one class. Intervals are over groups, as in `summarize`.
    """
    names = table[0].get("classes", {}) if table else {}
    return {name: _summary(table, name, samples, confidence, seed) for name in names}


def _summary(
    table: Sequence[Row], name: str, samples: int, confidence: float, seed: int
) -> dict[str, Any]:
    rows = [row for row in table if row["classes"][name]["outcome"] != "empty"]
    scores = [row["classes"][name] for row in rows]
    outcomes = [score["outcome"] for score in scores]
    groups = [row.get("group") for row in rows]
    found: dict[str, Any] = {
        "images": len(rows),
        "misses": outcomes.count("miss"),
        "false_alarms": outcomes.count("false_alarm"),
    }
    for metric in ("iou", "dice") if rows else ():
        values = [score[metric] for score in scores]
        low, high = bootstrap_interval(
            values, np.mean, samples, confidence, seed, groups
        )
        found[metric] = {"mean": float(np.mean(values)), "low": low, "high": high}
    return found
