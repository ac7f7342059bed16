"""Means, intervals and spreads over folds and seeds, against counting by hand."""

import numpy as np
import pytest

from kmunet.evaluation import Repeat, bootstrap_interval, summarize_repeats

RULES = {"samples": 300, "confidence": 0.9, "seed": 1}


def table(scores, groups=None):
    return [
        {"id": name, "group": (groups or {}).get(name), "iou": iou, "dice": iou / 2}
        for name, iou in scores.items()
    ]


FOLDS = [
    Repeat(0, 1, table({"a": 0.2, "b": 0.4})),
    Repeat(0, 2, table({"a": 0.4, "b": 0.8})),
    Repeat(1, 1, table({"c": 0.9})),
    Repeat(1, 2, table({"c": 0.7})),
]


def test_every_image_counts_once_whatever_the_size_of_its_fold():
    found = summarize_repeats(FOLDS, **RULES)
    assert found["iou"]["mean"] == pytest.approx((0.3 + 0.6 + 0.8) / 3)
    assert found["dice"]["mean"] == pytest.approx(found["iou"]["mean"] / 2)
    counts = {name: found[name] for name in ("trainings", "folds", "seeds", "images")}
    assert counts == {"trainings": 4, "folds": 2, "seeds": 2, "images": 3}


def test_the_interval_is_of_images_averaged_over_seeds_not_of_more_images():
    found = summarize_repeats(FOLDS, **RULES)["iou"]
    expected = bootstrap_interval([0.3, 0.6, 0.8], np.mean, 300, 0.9, 1)
    assert (found["low"], found["high"]) == pytest.approx(expected)


def test_groups_are_drawn_together_across_folds():
    groups = {"a": "p", "b": "q", "c": "p"}
    tables = [{row["id"]: row["iou"] for row in own.table} for own in FOLDS]
    repeats = [
        Repeat(own.fold, own.seed, table(scores, groups))
        for own, scores in zip(FOLDS, tables, strict=True)
    ]
    found = summarize_repeats(repeats, **RULES)
    expected = bootstrap_interval([0.3, 0.6, 0.8], np.mean, 300, 0.9, 1, list("pqp"))
    assert found["groups"] == 2
    assert (found["iou"]["low"], found["iou"]["high"]) == pytest.approx(expected)


def test_spreads_are_told_apart():
    found = summarize_repeats(FOLDS, **RULES)["iou"]
    assert found["sd_seeds"] == pytest.approx(np.std([1.5 / 3, 1.9 / 3], ddof=1))
    assert found["sd_folds"] == pytest.approx(np.std([0.45, 0.8], ddof=1))


def test_a_seed_that_lacks_a_fold_has_no_mean_of_its_own():
    summary = summarize_repeats(FOLDS[:3], **RULES)
    assert (summary["seeds"], summary["whole_seeds"]) == (2, 1)
    found = summary["iou"]
    assert found["sd_seeds"] is None
    assert found["mean"] == pytest.approx((0.3 + 0.6 + 0.9) / 3)


def test_one_training_has_no_spread_and_none_is_an_error():
    found = summarize_repeats(FOLDS[:1], **RULES)["iou"]
    assert found["sd_seeds"] is found["sd_folds"] is None
    with pytest.raises(ValueError, match="no test images"):
        summarize_repeats([], **RULES)
