"""The page and the tables of a sweep: report.html, trials.csv, summary.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmunet.report.page import environment
from kmunet.report.tables import write_csv, write_metrics

_COLOURS = ("#c9d1da", "#ff00aa")  # the others, the best
WIDTH, HEIGHT = 640, 260


@dataclass(frozen=True)
class SweepReport:
    """What a sweep has found: one table, some sentences, numbers, curves."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    sentences: Sequence[str]
    summary: Mapping[str, Any]
    curves: Sequence[Sequence[float]] = ()  # a validation score by epoch, the best last
    settings: Mapping[str, Any] = field(default_factory=dict)  # to put into params.yaml


def write_sweep_report(folder: Path, report: SweepReport) -> Path:
    """Write the files into `folder`; return the page."""
    write_csv(folder / "trials.csv", report.columns, report.rows)
    write_metrics(folder / "summary.json", report.summary)
    page = folder / "report.html"
    html = environment().get_template("sweep.html.j2")
    lines = polylines(report.curves)
    page.write_text(
        html.render(report=report, lines=lines, width=WIDTH, height=HEIGHT),
        encoding="utf-8",
        newline="\n",
    )
    return page


def polylines(curves: Sequence[Sequence[float]]) -> list[tuple[str, str]]:
    """(points, colour) of each curve as SVG draws it; epochs across, 0 to 1 up."""
    longest = max((len(curve) for curve in curves), default=0)
    step = WIDTH / max(1, longest - 1)
    return [
        (
            " ".join(f"{n * step:.1f},{HEIGHT * (1 - y):.1f}" for n, y in enumerate(c)),
            _COLOURS[place == len(curves)],
        )
        for place, c in enumerate(curves, 1)
    ]
