"""Differences between two models on the same images, paired, with intervals."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kmunet.evaluation.bootstrap import bootstrap_interval


def mean_interval(
    values: ArrayLike,
    samples: int,
    confidence: float,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """mean, low and high of values (N,), an image each; see `bootstrap_interval`."""
    data = np.asarray(values, np.float64)
    low, high = bootstrap_interval(data, np.mean, samples, confidence, seed, groups)
    return {"mean": float(data.mean()), "low": low, "high": high}


def paired_difference(
    values: ArrayLike,
    baseline: ArrayLike,
    samples: int,
    confidence: float,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """mean, low and high of values - baseline (N,), image by image.

    The draws are those of `bootstrap_interval` with this seed, so they are the same
    for both models and for all models that are compared. Raises ValueError where the
    two are not of the same images.
    """
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape} values and {theirs.shape} to compare with")
    return mean_interval(ours - theirs, samples, confidence, seed, groups)
