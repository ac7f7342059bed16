"""How cost grows with pixels: seconds and working memory of one image, log by log."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import OURS
from benchmarks.rows import Row, clock
from benchmarks.tables import TITLES

PARTS = ("scan", "step", "inference")


def plot(result: dict[str, Any], path: Path) -> None:
    """Write a PNG with a column a part; a line for each who has two sizes or more."""
    from matplotlib.figure import Figure

    device = result["settings"]["device"]
    rows = [r for r in result["rows"] if r["batch"] == 1 and "failed" not in r]
    parts = [part for part in PARTS if any(r["part"] == part for r in rows)]
    if not parts:
        return
    figure = Figure(figsize=(4.6 * len(parts), 7.6), layout="constrained")
    axes = figure.subplots(2, len(parts), squeeze=False, sharex=True)
    colors = _colors(rows)
    for column, part in enumerate(parts):
        mine = [row for row in rows if row["part"] == part]
        name = clock(device)
        _draw(axes[0][column], mine, name, f"{name.upper()} seconds", 1.0, colors)
        _draw(axes[1][column], mine, "working", "working memory, MB", 1e-6, colors)
        axes[0][column].set_title(TITLES[part], fontsize=9)
        axes[1][column].set_xlabel("pixels")
        shown = axes[1][column]
        shown.legend(
            fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
        )
    figure.savefig(path, dpi=70)


def _colors(rows: Sequence[Row]) -> dict[str, str]:
    """One colour for one peer in every panel; ours is black."""
    names = [n for n in dict.fromkeys(r["peer"] for r in rows) if n != OURS]
    return {OURS: "black", **{name: f"C{i % 10}" for i, name in enumerate(names)}}


def _draw(
    axes: Any,
    rows: Sequence[Row],
    key: str,
    label: str,
    scale: float,
    colors: dict[str, str],
) -> None:
    for peer in dict.fromkeys(row["peer"] for row in rows):
        mine = [row for row in rows if row["peer"] == peer]
        pixels = [row["size"] ** 2 for row in mine]
        values = [row[key] * scale for row in mine]
        width = 2.2 if peer == OURS else 1.1
        style = "--" if peer.endswith("bf16") else "-"
        line = {"color": colors[peer], "lw": width, "ls": style}
        axes.plot(pixels, values, marker="o", ms=3, label=peer, **line)
    axes.set(xscale="log", yscale="log", ylabel=label)
    sizes = sorted({row["size"] for row in rows})
    axes.set_xticks([size**2 for size in sizes], [f"{size}²" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
