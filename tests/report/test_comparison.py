"""The page of a comparison from plain tables: files, links, pictures."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from kmunet.report.comparison import Comparison, write_comparison
from kmunet.report.comparison_sheet import SIDE, SheetRow, write_comparison_sheet
from kmunet.report.contours import GREEN, MAGENTA, class_colour

FACTS = {
    "dataset": "lesions", "size": 32, "classes": ["lesion"],
    "budget": "2 CPU minutes", "clock": "cpu",
    "counts": {"train": 9, "validation": 3, "test": 4}, "groups": 4, "seeds": [1, 2],
    "folds": 1,
    "baseline": "unet", "confidence": 0.95, "resolution": "native",
    "machine": {"device": "x", "threads": 1, "torch": "2"},
    "params": {"lr": 1e-3, "kan": True}, "params_of": {"kan": ["km_unet <b>"]},
    "notes": ["two <views> lie apart"],
}  # fmt: skip


def score(mean, spread=0.01):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "spread": spread}


def model(name, iou, difference):
    return {
        "model": name, "seeds": 2, "parameters": 1_500_000, "flops": 2.5e9,
        "steps": 10.0, "epochs": 2.0, "wall": 90.0, "cpu": 120.0, "step_wall": None,
        "step_cpu": 0.5, "memory": 3e8, "device_memory": None,
        "validation_iou": 0.6, "best_epoch": 1.5,
        "iou": score(iou), "dice": score(iou + 0.1), "misses": 1.0, "false_alarms": 0.0,
        "difference": difference and {m: score(difference) for m in ("iou", "dice")},
    }  # fmt: skip


def sheet_rows():
    rows, columns = np.mgrid[:40, :60]
    truth = (rows - 20) ** 2 + (columns - 30) ** 2 < 100
    image = np.full((40, 60, 3), 90, np.uint8)
    truth = truth.astype(np.uint8)
    shifted = np.roll(truth, 9, axis=1)
    return [SheetRow("worst: a/<1>", image, truth, [shifted, truth], [0.2, 1.0])]


@pytest.fixture
def found(tmp_path):
    curves = [
        {"model": name, "fold": 0, "seed": seed, "epoch": n, "minutes": n,
         "cpu_minutes": n, "lr": 1e-3,
         "train_loss": 1 / n, "val_loss": 1 / n, "val_iou": 1 - 1 / n}
        for name in ("unet", "km_unet <b>") for seed in (1, 2) for n in (1, 2)
    ]  # fmt: skip
    models = [model("unet", 0.5, None), model("km_unet <b>", 0.4, -0.1)]
    page = write_comparison(
        tmp_path, Comparison(FACTS, models, [], curves, [], sheet_rows())
    )
    return page.parent


def test_the_page_says_it_and_escapes(found):
    html = (found / "report.html").read_text()
    assert "km_unet &lt;b&gt;" in html
    assert "<b>" not in html.split("<style>")[1].split("</style>")[1]
    assert "\N{MINUS SIGN}0.100" in html
    assert "± 0.010" in html
    assert "standard deviation over the 2 seeds" in html
    links = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert all((found / link).is_file() for link in links)


def test_the_page_has_notes_and_says_whose_memory_it_tells(found, tmp_path):
    html = (found / "report.html").read_text()
    assert "Note: two &lt;views&gt; lie apart." in html
    assert "Host memory" in html
    row = {**model("unet", 0.5, None), "device_memory": 7e9}
    (tmp_path / "gpu").mkdir()
    curve = {
        "model": "unet",
        "fold": 0,
        "seed": 1,
        "minutes": 1,
        "cpu_minutes": 1,
        "val_iou": 0.5,
    }
    one = Comparison(FACTS, [row], [], [curve], [], [])
    page = write_comparison(tmp_path / "gpu", one)
    assert "GPU memory" in page.read_text()
    assert "<td>7000</td>" in page.read_text()


def test_the_tables_are_flat_and_whole(found):
    with (found / "models.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["iou"], first["iou_low"], first["iou_spread"]) == (
        "0.5",
        "0.4",
        "0.01",
    )
    assert first["iou_difference"] == first["step_wall"] == ""
    assert (second["iou_difference"], second["dice_difference_low"]) == ("-0.1", "-0.2")
    whole = json.loads((found / "comparison.json").read_text())
    assert whole["models"][1]["difference"]["iou"]["mean"] == -0.1
    assert whole["budget"] == "2 CPU minutes"


def test_the_sheet_has_a_plain_picture_and_one_a_model(found):
    pixels = np.asarray(Image.open(found / "overlays.png"))[56:]
    plain, first, second = np.split(pixels, 3, axis=1)
    assert len(plain) == SIDE * 40 // 60 + 6

    def has(part, colour):
        return (part == np.array(colour)).all(-1).any()

    assert not has(plain, GREEN)
    assert all(has(part, c) for part in (first, second) for c in (GREEN, MAGENTA))
    assert not np.array_equal(first, second)


def test_of_several_classes_the_truth_comes_first_in_their_colours(tmp_path):
    (row,) = sheet_rows()
    truth = row.truth * 2
    rows = [SheetRow("one", row.image, truth, [row.truth], [0.0])]
    write_comparison_sheet(tmp_path / "s.png", ["unet"], rows, ["benign", "malignant"])
    pixels = np.asarray(Image.open(tmp_path / "s.png"))[56:]
    for part, value in zip(np.split(pixels, 2, axis=1), (2, 1), strict=True):
        for colour in (1, 2):
            drawn = (part == np.array(class_colour(colour))).all(-1).any()
            assert drawn == (colour == value)
