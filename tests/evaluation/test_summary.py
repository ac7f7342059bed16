"""A table of scores becomes the metrics of a test set."""

import math

import numpy as np
import pytest

from kmunet.evaluation import breakdown, score_image, summarize

OPTIONS = {"samples": 300, "confidence": 0.95, "seed": 0}


def mask(*pixels: tuple[int, int]) -> np.ndarray:
    out = np.zeros((4, 4), bool)
    for pixel in pixels:
        out[pixel] = True
    return out


@pytest.fixture
def table() -> list[dict]:
    pairs = [
        ("benign", mask((0, 0), (0, 1)), mask((0, 0), (0, 1))),  # perfect
        ("benign", mask((0, 0)), mask((0, 0), (0, 1))),  # IoU 1/2
        ("malignant", mask(), mask((1, 1))),  # miss
        ("normal", mask((3, 3)), mask()),  # false alarm
        ("normal", mask(), mask()),  # rightly empty
    ]
    return [
        {"id": f"{n}", "category": category, **score_image(pred, truth)}
        for n, (category, pred, truth) in enumerate(pairs)
    ]


def test_means_and_counts(table):
    summary = summarize(table, **OPTIONS)
    assert summary["images"] == 5
    assert summary["iou"]["mean"] == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert summary["dice"]["mean"] == pytest.approx((1 + 2 / 3 + 0 + 0 + 1) / 5)
    assert summary["precision"] == pytest.approx((1 + 1 + 0 + 0 + 1) / 5)
    assert summary["recall"] == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert (summary["misses"], summary["false_alarms"]) == (1, 1)
    assert summary["empty_truth"] == 2


def test_distance_is_averaged_where_it_is_defined(table):
    distances = [row["hd95"] for row in table]
    assert [math.isnan(value) for value in distances] == [
        False,
        False,
        True,
        True,
        False,
    ]
    summary = summarize(table, **OPTIONS)
    assert summary["hd95"]["undefined"] == 2
    assert summary["hd95"]["mean"] == pytest.approx(np.nanmean(distances))


def test_no_distance_at_all_is_none(table):
    summary = summarize(table[2:4], **OPTIONS)
    assert summary["hd95"] == {"mean": None, "undefined": 2}


def test_intervals_hold_the_mean(table):
    for name in ("iou", "dice"):
        value = summarize(table, **OPTIONS)[name]
        assert value["low"] < value["mean"] < value["high"]


def test_breakdown_pulls_the_empty_images_apart(table):
    groups = {row["group"]: row for row in breakdown(table)}
    assert list(groups) == [
        "all", "with a lesion", "without a lesion",
        "category benign", "category malignant", "category normal",
    ]  # fmt: skip
    assert groups["all"]["iou"] == pytest.approx(0.5)
    assert groups["all"]["images"] == 5
    assert groups["with a lesion"]["iou"] == pytest.approx(0.5)
    assert groups["without a lesion"]["false_alarms"] == 1
    assert groups["category malignant"]["hd95"] is None
    assert sum(groups[f"category {c}"]["images"] for c in ("benign", "normal")) == 4


def test_breakdown_without_categories_or_empty_images(table):
    rows = [{**row, "category": None} for row in table[:2]]
    assert [row["group"] for row in breakdown(rows)] == ["all", "with a lesion"]


def test_refuses_an_empty_table():
    with pytest.raises(ValueError, match="no images"):
        summarize([], **OPTIONS)
