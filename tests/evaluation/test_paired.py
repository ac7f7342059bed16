"""Paired differences against a direct computation."""

import numpy as np
import pytest

from kmunet.evaluation.paired import mean_interval, paired_difference

RNG = np.random.default_rng(3)
BASELINE = RNG.uniform(0.2, 0.9, 12)
VALUES = BASELINE + RNG.normal(0.05, 0.01, 12)
GROUPS = ["a", "a", "a", "b", "b", None, "c", "c", "c", "c", None, "b"]


def test_equals_a_direct_bootstrap_over_groups():
    """Whole groups are drawn, as many as there are, with numpy's own generator."""
    labels = ["a", "b", 5, "c", 10]
    members = [[n for n in range(12) if (GROUPS[n] or n) == label] for label in labels]
    rng, gains = np.random.default_rng(7), []
    for _ in range(400):
        drawn = [n for k in rng.integers(5, size=5) for n in members[k]]
        gains.append(VALUES[drawn].mean() - BASELINE[drawn].mean())
    low, high = np.quantile(gains, [0.05, 0.95])
    found = paired_difference(VALUES, BASELINE, 400, 0.9, 7, GROUPS)
    assert found["mean"] == pytest.approx(VALUES.mean() - BASELINE.mean())
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_pairing_tells_apart_what_two_intervals_do_not():
    ours, theirs = (mean_interval(v, 400, 0.95, 0) for v in (VALUES, BASELINE))
    assert ours["low"] < theirs["high"]  # they overlap
    assert paired_difference(VALUES, BASELINE, 400, 0.95, 0)["low"] > 0


def test_a_model_does_not_differ_from_itself():
    found = paired_difference(VALUES, VALUES, 100, 0.95, 0, GROUPS)
    assert found == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"\(12,\) values and \(11,\)"):
        paired_difference(VALUES, BASELINE[:-1], 100, 0.95, 0)
