"""The scores of several trainings on one data set: over folds, seeds or both.

An image's score is its mean over the trainings that were tested on it, so that with
folds every image counts once. The interval is the cluster bootstrap over groups of
these: it holds the trainings fixed, and says how far other patients would move the
mean. How far other trainings would is told apart, as a standard deviation over seeds.
The spread over folds is no standard error: folds share their training images, and the
variance of their mean has no unbiased estimate (Bengio & Grandvalet, 2004).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmunet.evaluation.bootstrap import bootstrap_interval, group_members

METRICS = ("iou", "dice")


@dataclass(frozen=True)
class Repeat:
    """One training and the images that it was tested on."""

    fold: int
    seed: int
    table: Sequence[Mapping[str, Any]]  # rows with id, group, iou and dice


def summarize_repeats(
    repeats: Sequence[Repeat], *, samples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Counts, and for IoU and Dice: mean, low, high, sd_seeds, sd_folds.

    sd_seeds: standard deviation (n - 1) of the mean over all images, by seed; None with
    fewer than two seeds that tested them all (`whole_seeds` counts these). sd_folds: of
    the means of the folds, each averaged over seeds; None with one fold. Raises
    ValueError without a test image.
    """
    if not any(repeat.table for repeat in repeats):
        raise ValueError("there are no test images to summarize")
    found: dict[str, Any] = {name: {} for name in METRICS}
    for name in METRICS:
        scores: dict[str, list[float]] = defaultdict(list)
        groups: dict[str, Any] = {}
        for repeat in repeats:
            for row in repeat.table:
                scores[row["id"]].append(row[name])
                groups[row["id"]] = row.get("group")
        labels = [groups[image] for image in scores]
        values = [float(np.mean(own)) for own in scores.values()]
        low, high = bootstrap_interval(
            values, np.mean, samples, confidence, seed, labels
        )
        whole = _by_seed(repeats, name, len(scores))
        found[name] = {
            "mean": float(np.mean(values)),
            "low": low,
            "high": high,
            "sd_seeds": spread(whole),
            "sd_folds": spread(_by_fold(repeats, name)),
        }
    return {
        "trainings": len(repeats),
        "folds": len({repeat.fold for repeat in repeats}),
        "seeds": len({repeat.seed for repeat in repeats}),
        "whole_seeds": len(whole),
        "images": len(labels),
        "groups": len(group_members(labels)),
        **found,
    }


def _by_seed(repeats: Sequence[Repeat], name: str, images: int) -> list[float]:
    """The mean over all images for each seed that tested every one of them."""
    scores: dict[int, dict[str, float]] = defaultdict(dict)
    for repeat in repeats:
        scores[repeat.seed] |= {row["id"]: row[name] for row in repeat.table}
    whole = [list(own.values()) for own in scores.values() if len(own) == images]
    return [float(np.mean(own)) for own in whole]


def _by_fold(repeats: Sequence[Repeat], name: str) -> list[float]:
    means: dict[int, list[float]] = defaultdict(list)
    for repeat in repeats:
        means[repeat.fold].append(float(np.mean([row[name] for row in repeat.table])))
    return [float(np.mean(own)) for own in means.values()]


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample (n - 1); None for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
