"""The bootstrap against SciPy's, theory, and its own seed."""

import numpy as np
import pytest
from scipy import stats

from kmunet.evaluation import bootstrap
from kmunet.evaluation.bootstrap import bootstrap_interval

VALUES = np.random.default_rng(3).beta(4, 2, size=80)


def test_agrees_with_scipy():
    ours = bootstrap_interval(VALUES, np.mean, 20_000, 0.9, seed=1)
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=20_000, confidence_level=0.9,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx(tuple(theirs), abs=2e-3)


def test_of_a_mean_is_close_to_the_normal_interval():
    low, high = bootstrap_interval(VALUES, np.mean, 20_000, 0.95, seed=0)
    half = 1.96 * VALUES.std() / np.sqrt(VALUES.size)
    assert low == pytest.approx(VALUES.mean() - half, abs=4e-3)
    assert high == pytest.approx(VALUES.mean() + half, abs=4e-3)


def test_takes_any_statistic_and_widens_with_confidence():
    low, high = bootstrap_interval(VALUES, np.median, 2000, 0.8, seed=0)
    wide_low, wide_high = bootstrap_interval(VALUES, np.median, 2000, 0.99, seed=0)
    assert wide_low < low < np.median(VALUES) < high < wide_high


def test_the_seed_decides_and_the_block_does_not(monkeypatch):
    first = bootstrap_interval(VALUES, np.mean, 500, 0.95, seed=7)
    assert bootstrap_interval(VALUES, np.mean, 500, 0.95, seed=7) == first
    assert bootstrap_interval(VALUES, np.mean, 500, 0.95, seed=8) != first
    monkeypatch.setattr(bootstrap, "_BLOCK", 3 * VALUES.size)
    assert bootstrap_interval(VALUES, np.mean, 500, 0.95, seed=7) == first


def test_one_image_has_no_spread():
    assert bootstrap_interval([0.25], np.mean, 100, 0.95, seed=0) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [[0.1], [0.2]]])
def test_refuses_values_that_cannot_be_drawn(values):
    with pytest.raises(ValueError, match="finite values"):
        bootstrap_interval(values, np.mean, 100, 0.95, seed=0)


def test_groups_of_one_are_images():
    plain = bootstrap_interval(VALUES, np.mean, 500, 0.95, seed=7)
    for groups in ([None] * 80, [f"patient {n}" for n in range(80)]):
        assert bootstrap_interval(VALUES, np.mean, 500, 0.95, 7, groups) == plain


def test_copies_of_an_image_are_no_new_evidence():
    """Each value ten times: over images the interval shrinks, over groups not."""
    copied = np.repeat(VALUES, 10)
    groups = np.repeat(np.arange(80), 10).tolist()
    low, high = bootstrap_interval(VALUES, np.mean, 8000, 0.95, seed=0)
    wide = bootstrap_interval(copied, np.mean, 8000, 0.95, 0, groups)
    narrow = bootstrap_interval(copied, np.mean, 8000, 0.95, 0)
    assert wide == pytest.approx((low, high), abs=2e-3)
    assert (narrow[1] - narrow[0]) * 3 < high - low


def test_uneven_groups_cover_the_truth_as_often_as_promised():
    """Patients of 1 to 9 images with a common offset; 0.9 must hold about 0.9."""
    rng = np.random.default_rng(5)
    covered = narrow = 0
    for seed in range(200):
        sizes = rng.integers(1, 10, size=60)
        groups = np.repeat(np.arange(60), sizes)
        values = rng.normal(size=60)[groups] + 0.3 * rng.normal(size=len(groups))
        low, high = bootstrap_interval(values, np.mean, 300, 0.9, seed, groups.tolist())
        covered += low < 0 < high
        low, high = bootstrap_interval(values, np.mean, 300, 0.9, seed)
        narrow += low < 0 < high
    assert 0.82 < covered / 200 < 0.97
    assert narrow / 200 < 0.75


def test_a_label_a_value():
    with pytest.raises(ValueError, match="2 groups for 80 values"):
        bootstrap_interval(VALUES, np.mean, 100, 0.95, 0, ["a", "b"])
