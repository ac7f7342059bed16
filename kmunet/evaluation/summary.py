"""From masks to a row an image, and from the rows to the metrics of a test set."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmunet.evaluation import overlap
from kmunet.evaluation.bootstrap import bootstrap_interval, group_members
from kmunet.evaluation.overlap import Mask
from kmunet.evaluation.surface import hd95

# What score_image gives, with an id, a category and the group it belongs to.
Row = Mapping[str, Any]


def score_image(pred: Mask, truth: Mask) -> dict[str, Any]:
    """Scores of one image from two bool masks (H, W).

    outcome, iou, dice, precision, recall, specificity, hd95 (pixels; NaN where it is
    not defined), truth_pixels, predicted_pixels.
    """
    counts = overlap.count(pred, truth)
    return {
        "outcome": overlap.outcome(counts),
        "iou": overlap.iou(counts),
        "dice": overlap.dice(counts),
        "precision": overlap.precision(counts),
        "recall": overlap.recall(counts),
        "specificity": overlap.specificity(counts),
        "hd95": hd95(pred, truth),
        "truth_pixels": counts.truth,
        "predicted_pixels": counts.predicted,
    }


def summarize(
    table: Sequence[Row], *, samples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Metrics of a test set: means over images, intervals of IoU and Dice, counts.

    Intervals are over groups (patients, sequences); `groups` is how many there are.
    `hd95.mean` is over the images where it is defined (None if there are none), and
    `hd95.undefined` counts the rest. Raises ValueError for an empty table.
    """
    if not table:
        raise ValueError("there are no images to summarize")
    groups = [row.get("group") for row in table]
    summary: dict[str, Any] = {
        "images": len(table),
        "groups": len(group_members(groups)),
        "hd95": _distance(table),
        "misses": _count(table, "miss"),
        "false_alarms": _count(table, "false_alarm"),
        "empty_truth": sum(row["truth_pixels"] == 0 for row in table),
    }
    for name in ("iou", "dice"):
        values = [row[name] for row in table]
        low, high = bootstrap_interval(
            values, np.mean, samples, confidence, seed, groups
        )
        summary[name] = {"mean": float(np.mean(values)), "low": low, "high": high}
    for name in ("precision", "recall", "specificity"):
        summary[name] = _mean(table, name)
    return summary


def breakdown(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Means and counts of all images, with a lesion, without, by category and class.

    A class's row is over the images that hold it, in truth or prediction. Two empty
    masks score 1, so a set with many images without a lesion looks better than its
    lesions are segmented: the rows pull the two apart.
    """
    groups = {
        "all": list(table),
        "with a lesion": [row for row in table if row["truth_pixels"]],
        "without a lesion": [row for row in table if not row["truth_pixels"]],
    }
    for name in sorted({row["category"] for row in table if row.get("category")}):
        groups[f"category {name}"] = [r for r in table if r.get("category") == name]
    for name in table[0].get("classes", ()) if table else ():
        own = [row["classes"][name] for row in table]
        groups[f"class {name}"] = [row for row in own if row["outcome"] != "empty"]
    return [_group(name, rows) for name, rows in groups.items() if rows]


def _group(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "group": name,
        "images": len(rows),
        "iou": _mean(rows, "iou"),
        "dice": _mean(rows, "dice"),
        "hd95": _distance(rows)["mean"],
        "misses": _count(rows, "miss"),
        "false_alarms": _count(rows, "false_alarm"),
    }


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _count(rows: Sequence[Row], outcome: str) -> int:
    return sum(row["outcome"] == outcome for row in rows)


def _distance(rows: Sequence[Row]) -> dict[str, Any]:
    defined = [row["hd95"] for row in rows if not math.isnan(row["hd95"])]
    mean = float(np.mean(defined)) if defined else None
    return {"mean": mean, "undefined": len(rows) - len(defined)}
