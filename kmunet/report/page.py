"""report.html with its overlays, figures and tables: one folder, read offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from kmunet.report.contours import class_colour, write_overlay
from kmunet.report.examples import SECTIONS, file_name
from kmunet.report.figures import write_figures
from kmunet.report.tables import write_tables

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """One test image of the gallery, at the size at which it was scored."""

    section: str  # a key of examples.SECTIONS
    row: Row  # of the table, with its id
    image: NDArray[np.uint8]  # (H, W, 3)
    truth: NDArray[np.uint8]  # (H, W), 0 or the class
    pred: NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    metrics: Mapping[str, Any]  # what metrics/<data set>.json holds
    table: Sequence[Row]  # a row an image
    breakdown: Sequence[Row]  # a row a group of images
    history: Sequence[Row]  # a row an epoch
    run: Mapping[str, Mapping[str, Any]]  # heading -> name -> value
    confidence: float  # of the intervals in metrics
    examples: Sequence[Example]
    classes: Sequence[str] = ("lesion",)
    selected_on_test: bool = False  # the epoch, as protocol 'paper' does
    notes: Sequence[str] = ()  # on the split

    @property
    def colours(self) -> dict[str, str]:
        """Class -> its colour in the overlays, for CSS; none for a single class."""
        if len(self.classes) == 1:
            return {}
        named = enumerate(self.classes, 1)
        return {name: f"rgb{class_colour(value)}" for value, name in named}


def write_report(folder: Path, report: Report) -> Path:
    """Write report.html and what it links to into `folder`; return its path."""
    for name in ("overlays", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_tables(folder, report.table, report.history, report.colours)
    write_figures(folder / "figures", report.table, report.history)
    gallery = _write_gallery(folder, report.examples, len(report.classes))
    page = folder / "report.html"
    text = (
        environment()
        .get_template("report.html.j2")
        .render(report=report, metrics=report.metrics, gallery=gallery)
    )
    page.write_text(text, encoding="utf-8", newline="\n")
    return page


def _write_gallery(
    folder: Path, examples: Sequence[Example], classes: int
) -> list[dict[str, Any]]:
    gallery = []
    for name, title in SECTIONS.items():
        cards = []
        for rank, shown in enumerate(e for e in examples if e.section == name):
            file = f"overlays/{file_name(name, rank + 1, str(shown.row['id']))}"
            write_overlay(
                folder / file, shown.image, shown.truth, shown.pred, shown.row, classes
            )
            cards.append({"link": quote(file), "row": shown.row})
        if cards:
            gallery.append({"title": title, "cards": cards})
    return gallery


def environment() -> Environment:
    """Of all templates: strict, escaping, with filters for numbers."""
    found = Environment(
        loader=PackageLoader("kmunet.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["score"] = lambda value: _number(value, 3)
    found.filters["pixels"] = lambda value: _number(value, 1)
    found.filters["plain"] = _plain
    return found


def _number(value: float | None, digits: int) -> str:
    # NaN is not equal to itself.
    if value is None or value != value:
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _plain(value: Any) -> str:
    """A parameter as params.yaml would spell it, near enough to be recognised."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, int) and abs(value) >= 1_000_000:
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
