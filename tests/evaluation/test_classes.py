"""Several classes: each one's own scores, their mean, and what is left out of it."""

import numpy as np
import pytest

from kmunet.evaluation import (
    breakdown,
    score_image,
    score_labels,
    summarize,
    summarize_classes,
)

NAMES = ("gland", "tumour")
DRAWS = {"samples": 200, "confidence": 0.9, "seed": 0}


def labels(gland=(0, 0), tumour=(0, 0)):
    """20 x 20 with a bar of rows for each class."""
    found = np.zeros((20, 20), np.uint8)
    found[slice(*gland)] = 1
    found[slice(*tumour)] = 2
    return found


def test_one_class_is_the_binary_case():
    pred, truth = labels((0, 8)), labels((4, 12))
    assert score_labels(pred, truth, ("gland",)) == score_image(pred > 0, truth > 0)


def test_the_score_is_the_mean_of_the_classes_that_are_there():
    pred, truth = labels((0, 8), (10, 14)), labels((4, 12), (10, 14))
    row = score_labels(pred, truth, NAMES)
    gland = score_image(pred == 1, truth == 1)
    tumour = score_image(pred == 2, truth == 2)
    assert row["classes"] == {"gland": gland, "tumour": tumour}
    assert row["iou"] == pytest.approx((gland["iou"] + tumour["iou"]) / 2)
    assert row["hd95"] == pytest.approx((gland["hd95"] + tumour["hd95"]) / 2)
    assert row["truth_pixels"] == 20 * 8 + 20 * 2
    assert row["outcome"] == "segmented"


def test_a_class_that_is_nowhere_does_not_count():
    pred, truth = labels((0, 8)), labels((4, 12))
    row = score_labels(pred, truth, NAMES)
    assert row["iou"] == pytest.approx(1 / 3)
    missed = score_labels(labels((4, 12)), labels((4, 12), (14, 16)), NAMES)
    assert missed["iou"] == pytest.approx(0.5)
    assert np.isnan(missed["hd95"])  # else whoever misses a class would be nearer
    invented = score_labels(labels((4, 12), (14, 16)), labels((4, 12)), NAMES)
    assert np.isnan(invented["hd95"])
    counted = summarize([{"id": "a", **row}, {"id": "b", **missed}], **DRAWS)["hd95"]
    assert counted == {"mean": row["hd95"], "undefined": 1}
    assert score_labels(labels(), labels(), NAMES)["iou"] == 1.0
    # Foreground all the same, and every pixel of it of the wrong class.
    wrong = score_labels(labels((4, 12)), labels((0, 0), (4, 12)), NAMES)
    assert (wrong["iou"], wrong["outcome"]) == (0.0, "segmented")
    assert np.isnan(wrong["hd95"])


def test_a_test_set_has_each_class_apart():
    truths = [labels((0, 8)), labels((0, 8), (10, 14)), labels()]
    preds = [labels((0, 8)), labels((0, 4)), labels((0, 0), (3, 5))]
    pairs = zip(preds, truths, strict=True)
    table = [{"id": str(n), **score_labels(*p, NAMES)} for n, p in enumerate(pairs)]
    found = summarize_classes(table, **DRAWS)
    assert found["gland"]["images"] == 2
    assert found["gland"]["iou"]["mean"] == pytest.approx((1 + 0.5) / 2)
    assert found["gland"]["iou"]["low"] <= 0.75 <= found["gland"]["iou"]["high"]
    tumour = found["tumour"]
    assert (tumour["images"], tumour["misses"], tumour["false_alarms"]) == (2, 1, 1)
    assert summarize(table, **DRAWS)["iou"]["mean"] == pytest.approx(1.25 / 3)
    rows = {row["group"]: row for row in breakdown(table)}
    assert rows["class tumour"]["iou"] == 0.0
    assert rows["class gland"]["images"] == 2


def test_a_class_that_no_image_holds_has_no_scores():
    table = [score_labels(labels((0, 8)), labels((0, 8)), NAMES)]
    assert summarize_classes(table, **DRAWS)["tumour"] == {
        "images": 0, "misses": 0, "false_alarms": 0,
    }  # fmt: skip
    one = [score_labels(labels((0, 8)), labels((0, 8)), ("gland",))]
    assert summarize_classes(one, **DRAWS) == {}
