"""A report's inputs from drawn masks: ids with brackets, every outcome, no model."""

import numpy as np
import pytest

from kmunet.evaluation import breakdown, pooled_iou, score_image, summarize
from kmunet.report import Example, Report, choose_examples

SIZE = 24
HISTORY = [
    {"epoch": n, "lr": 1e-3, "train_loss": 1.5 / n, "val_loss": 1.6 / n,
     "val_iou": 1 - 1 / n, "val_dice": 0.5}
    for n in range(1, 6)
]  # fmt: skip
RUN = {"Data": {"split.seed": 7, "notes": ["<two> & more"]}, "Model": {"kan": True}}


def disc(row: int, column: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """id -> (prediction, truth)."""
    found = {
        f"benign ({n}) <b>&": (disc(10, 8 + n, 6), disc(10, 10, 6)) for n in range(9)
    }
    none = disc(0, 0, 0)
    found["missed/small #1?.png"] = (none, disc(5, 5, 3))
    found["missed/large"] = (none, disc(10, 10, 8))
    found["normal [1] %20"] = (disc(20, 20, 2), none)
    found["normal [2]"] = (none, none)
    return found


@pytest.fixture
def table() -> list[dict]:
    return [
        {"id": name, "category": name.split()[0], **score_image(pred, truth)}
        for name, (pred, truth) in pairs().items()
    ]


@pytest.fixture
def make_report(table):
    def make(budget: int = 12, rows: list[dict] | None = None) -> Report:
        rows = table if rows is None else rows
        shown = [pairs()[row["id"]] for row in rows]
        images = np.random.default_rng(0).integers(
            0, 256, (len(rows), SIZE, SIZE, 3), dtype=np.uint8
        )
        iou, dice = pooled_iou(*(np.stack(x) for x in zip(*shown, strict=True)))
        metrics = {
            **summarize(rows, samples=200, confidence=0.9, seed=0),
            "dataset": "drawn", "threshold": 0.5, "resolution": "prepared",
            "paper": {"pooled_iou": iou, "pooled_dice": dice},
            "model": {"name": "km_unet", "parameters": 1234567},
        }  # fmt: skip
        examples = [
            Example(section, rows[n], images[n], shown[n][1], shown[n][0])
            for section, places in choose_examples(rows, budget).items()
            for n in places
        ]
        return Report(metrics, rows, breakdown(rows), HISTORY, RUN, 0.9, examples)

    return make
