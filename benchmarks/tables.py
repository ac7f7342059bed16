"""A run's figures as text: one table a group, the limits and the goals."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from benchmarks.rows import Row, clock

Table = tuple[str, list[str], list[list[str]]]  # title, header, rows
TITLES = {
    "scan": "The seven 2-D scans, forward and backward",
    "kan": "The six KANLinear, forward and backward",
    "ss2d": "The seven SS2D modules, forward and backward",
    "step": "Training step: forward, backward, optimizer",
    "inference": "Inference",
}
UNITS = {"exp": "G exp/s", "bandwidth": "GB/s"}


def show(result: dict[str, Any]) -> None:
    """Print everything, with rich where it is installed."""
    device = result["settings"]["device"]
    tables = [limits_table(result["limits"], device)]
    by_group = groupby(result["rows"], lambda r: (r["part"], r["size"], r["batch"]))
    tables += [group_table(list(rows), device) for _, rows in by_group]
    tables.append(goals_table(result["goals"]))
    for table in tables:
        print_table(table)
    for line in sorted({text for row in result["rows"] for text in stand_ins(row)}):
        print(line)
    same = sorted({row["peer"] for row in result["rows"] if row["deterministic"]})
    if same:
        print(f"deterministic, as in training: {', '.join(same)}")


def stand_ins(row: Row) -> list[str]:
    """What the benchmark put in for a package that published code imports."""
    return [f"stand-in, {row['peer']}: {text}" for text in row.get("injected") or ()]


def limits_table(limits: dict[str, float], device: str) -> Table:
    rows = [
        [name, f"{rate / 1e9:.4g} {UNITS.get(name, 'GFLOP/s')}"]
        for name, rate in limits.items()
    ]
    what = "a GPU second" if device == "cuda" else "a CPU second of one thread"
    return f"Limits of this machine, {what}", ["limit", "rate"], rows


def group_table(rows: Sequence[Row], device: str) -> Table:
    part, size, batch = (rows[0][key] for key in ("part", "size", "batch"))
    main = clock(device)
    phases = list(dict.fromkeys(p for row in rows for p in row.get("phases", ())))
    phases = phases if len(phases) > 1 else []
    header = ["who", f"{main} s", "median", "x ours", *phases]
    header += [*(["wall s"] if main == "cpu" else []), "MB", "x ours"]
    header += ["exp", "FMA", "bytes"]
    title = f"{TITLES[part]}: {batch} x {size} x {size}"
    return title, header, [_line(row, main, phases) for row in rows]


def goals_table(judged: Sequence[Row]) -> Table:
    names = {True: "reached", False: "NOT reached", None: "not measured"}
    lines = [
        [
            *(row["what"], row["goal"], _number(row["value"])),
            "cold: no second call" if row["cold"] else names[row["reached"]],
        ]
        for row in judged
    ]
    return "Goals", ["what", "goal", "here", ""], lines


def print_table(table: Table) -> None:
    title, header, rows = table
    try:
        from rich.console import Console
        from rich.table import Table as Rich
    except ImportError:
        print("\n".join([title, *("  ".join(line) for line in [header, *rows]), ""]))
        return
    shown = Rich(title=title, title_justify="left")
    for i, name in enumerate(header):
        shown.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    # A pipe has no width: then as wide as the table wants to be.
    console = Console()
    wide = console.width if console.is_terminal else 200
    Console(width=wide, highlight=False, markup=False).print(shown)


def _line(row: Row, main: str, phases: Sequence[str]) -> list[str]:
    if "failed" in row:
        bound = row.get("times_ours_at_least")
        more = "" if bound is None else f"> {bound:.4g}"
        return [row["peer"], row["failed"], "", more]
    seconds = [row[main], row[f"{main}_median"], row.get("times_ours")]
    parts = [row["phases"][name][main] for name in phases]
    wall = [row["wall"]] if main == "cpu" else []
    memory = [row["working"] / 1e6, row.get("memory_times_ours")]
    figures = [_number(v) for v in (*seconds, *parts, *wall, *memory)]
    shares = [_percent(row["shares"][name]) for name in ("exp", "fma", "bandwidth")]
    cold = " (first call)" if row["cold"] else ""
    return [row["peer"] + cold, *figures, *shares]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share else ""
