"""Figures of a comparison: learning curves against time, differences with intervals."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kmunet.report.figures import BLUE, GREY, ORANGE, TEAL, save, tidy

Row = Mapping[str, Any]

COLOURS = (BLUE, ORANGE, TEAL, "#a23b72", "#6b5b95", "#b8860b", "#c0392b", GREY)


def learning_curves(
    path: Path, models: Sequence[str], curves: Sequence[Row], clock: str
) -> None:
    """Validation IoU against minutes on a `clock` (wall, cpu), a colour a model.

    Thin: an epoch; thick: the best so far, whose weights are kept.
    """
    column, label = {
        "wall": ("minutes", "minutes of training"),
        "cpu": ("cpu_minutes", "CPU minutes of training"),
    }[clock]
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, model in enumerate(models):
        colour = COLOURS[number % len(COLOURS)]
        own = [row for row in curves if row["model"] == model]
        runs = dict.fromkeys((row["fold"], row["seed"]) for row in own)
        for place, run in enumerate(runs):
            rows = [row for row in own if (row["fold"], row["seed"]) == run]
            minutes = [row[column] for row in rows]
            values = [row["val_iou"] for row in rows]
            best = [max(values[: n + 1]) for n in range(len(values))]
            marker = "o" if len(rows) < 40 else None
            axes.plot(minutes, values, color=colour, lw=0.8, alpha=0.45, marker=marker,
                      ms=2.5)  # fmt: skip
            name = model if place == 0 else None
            axes.step(minutes, best, color=colour, lw=2, where="post", label=name)
    tidy(axes, label, "IoU, validation")
    axes.set_xlim(left=0)
    low = min((row["val_iou"] for row in curves), default=0.0)
    axes.set_ylim(math.floor(10 * low) / 10, 1.0)
    axes.legend(frameon=False, loc="lower right")
    save(figure, path)


def differences(path: Path, models: Sequence[Row]) -> None:
    """Each model's mean IoU less the first one's, with its interval."""
    others = [row for row in models if row["difference"]]
    figure = Figure(figsize=(9.6, 1.1 + 0.42 * len(others)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(others):
        value = row["difference"]["iou"]
        colour = COLOURS[(place + 1) % len(COLOURS)]
        axes.plot([value["low"], value["high"]], [place, place], color=colour, lw=3)
        axes.plot([value["mean"]], [place], "o", color=colour, ms=8)
    tidy(axes, f"IoU less that of {models[0]['model']}, test images", "")
    axes.axvline(0.0, color=GREY, lw=1)
    axes.set_yticks(range(len(others)), [row["model"] for row in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    save(figure, path)
