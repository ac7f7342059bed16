"""The report's plots as PNG, the same bytes for the same numbers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kmunet.report.tables import BINS

# "building the font cache" on a first run is nothing that a user can act upon.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

Row = Mapping[str, Any]

BLUE, ORANGE, TEAL, GREY = "#2563a8", "#d9730d", "#0f7b6c", "#8a8f98"


def write_figures(folder: Path, table: Sequence[Row], history: Sequence[Row]) -> None:
    """Write curves.png, iou_histogram.png and size_iou.png into `folder`."""
    curves(folder / "curves.png", history)
    iou_histogram(folder / "iou_histogram.png", table)
    size_iou(folder / "size_iou.png", table)


def curves(path: Path, history: Sequence[Row]) -> None:
    """Losses and validation IoU by epoch, side by side."""
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    losses, score = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) < 40 else None
    lines = (
        (losses, "train_loss", "training", BLUE),
        (losses, "val_loss", "validation", ORANGE),
        (score, "val_iou", "validation", ORANGE),
    )
    for axes, column, label, colour in lines:
        values = [row[column] for row in history]
        axes.plot(epochs, values, color=colour, label=label, marker=marker, ms=3)
    tidy(losses, "epoch", "loss")
    tidy(score, "epoch", "IoU, validation")
    score.set_ylim(0.0, 1.0)
    for axes in (losses, score):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.legend(frameon=False)
    save(figure, path)


def iou_histogram(path: Path, table: Sequence[Row]) -> None:
    """Test images by IoU, those with a lesion apart from those without."""
    figure = Figure(figsize=(4.7, 3.2), layout="constrained")
    axes = figure.subplots()
    groups = {
        "with a lesion": [row["iou"] for row in table if row["truth_pixels"]],
        "without": [row["iou"] for row in table if not row["truth_pixels"]],
    }
    shown = {name: values for name, values in groups.items() if values}
    axes.hist(
        list(shown.values()), bins=BINS, range=(0.0, 1.0), stacked=True,
        color=[BLUE, GREY][: len(shown)] if groups["with a lesion"] else [GREY],
        label=list(shown), edgecolor="white",
    )  # fmt: skip
    tidy(axes, "IoU of an image", "test images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(shown) > 1:
        axes.legend(frameon=False)
    save(figure, path)


def size_iou(path: Path, table: Sequence[Row]) -> None:
    """IoU against the size of the lesion: small ones are the hard ones."""
    figure = Figure(figsize=(4.7, 3.2), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in table if row["truth_pixels"]]
    sizes = [row["truth_pixels"] for row in rows]
    axes.scatter(sizes, [row["iou"] for row in rows], s=16, color=TEAL, alpha=0.7)
    tidy(axes, "lesion, pixels (log)", "IoU")
    axes.set_xscale("log" if rows else "linear")
    axes.set_ylim(-0.03, 1.03)
    save(figure, path)


def tidy(axes: Any, x: str, y: str) -> None:
    """Labels, a faint grid, no frame."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the figure alone."""
    FigureCanvasAgg(figure)
    # The version of matplotlib in the file would change its bytes.
    figure.savefig(path, format="png", dpi=144, metadata={"Software": None})
