"""A comparison on the terminal: how far each run is, and the table at the end."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.comparison.request import Run

Row = Mapping[str, Any]
WIDE = 110  # columns of a terminal that has room for the cost


class Show:
    """Bars on a terminal; in a log a line every few seconds, and one a run."""

    def __init__(
        self, runs: Sequence[Run], console: Console | None = None, every: float = 10.0
    ) -> None:
        self.console = console or Console()
        self.every, self.spoken = every, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[values]}"),
            TimeElapsedColumn(),
        )
        live = self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, disable=not live)
        self.places = {run.folder: n for n, run in enumerate(runs, 1)}
        self.tasks: dict[Any, TaskID] = {}

    def __enter__(self) -> "Show":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def hear(self, run: Run, message: Mapping[str, Any]) -> None:
        """What a run says: see worker.py and ledger.py."""
        if "done" in message:
            self._end(run, message["done"])
        elif "waiting" in message:
            self._print(run, "another comparison trains it; waiting")
        elif "share" in message:
            self._move(run, message)

    def _move(self, run: Run, message: Mapping[str, Any]) -> None:
        if run.folder not in self.tasks:
            title = f"{run.name} ({self.places[run.folder]}/{len(self.places)})"
            self.tasks[run.folder] = self.bar.add_task(title, total=1.0, values="")
        values = "test images" if "scoring" in message else _values(message)
        task = self.tasks[run.folder]
        self.bar.update(task, completed=message["share"], values=values)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.spoken >= self.every:
            self.spoken = now
            self._print(run, f"{100 * message['share']:.0f} %, {values}")

    def _end(self, run: Run, result: Any) -> None:
        if run.folder in self.tasks:
            self.bar.remove_task(self.tasks[run.folder])
        facts = result.facts
        self._print(
            run,
            f"{facts['steps']} steps, {facts['epochs']} epochs in "
            f"{facts['wall'] / 60:.1f} minutes ({facts['cpu'] / 60:.1f} of CPU), best "
            f"validation IoU {facts['best']['iou']:.4f} in {facts['best']['epoch']}",
        )

    def _print(self, run: Run, text: str) -> None:
        place = f"{self.places[run.folder]}/{len(self.places)}"
        self.console.print(
            f"{place} {run.name}: {text}", highlight=False, soft_wrap=True
        )


def _values(message: Mapping[str, Any]) -> str:
    return (
        f"epoch {message['epoch']} step {message['step']} loss {message['loss']:.4f} "
        f"IoU {message['iou']:.4f} {message['images_per_second']:.1f} images/s"
    )


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """What the models reach and, where it is wide enough, what they cost."""
    console = console or Console()
    columns = _columns(rows, console.width >= WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in columns:
        side: Literal["left", "right"] = "left" if head == "model" else "right"
        table.add_column(head, justify=side, no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    console.print(table)


def _columns(rows: Sequence[Row], wide: bool) -> dict[str, list[str]]:
    kind, memory = "host MB", "memory"
    if all(row["device_memory"] for row in rows):
        kind, memory = "GPU MB", "device_memory"
    cost = {
        "params": [f"{row['parameters'] / 1e6:.2f} M" for row in rows],
        "GFLOPs": [f"{row['flops'] / 1e9:.2f}" for row in rows],
        "ms/step": [_milliseconds(row["step_wall"]) for row in rows],
        kind: [f"{row[memory] / 1e6:.0f}" for row in rows],
    }
    differences = [
        _interval(row["difference"]["iou"], "+") if row["difference"] else ""
        for row in rows
    ]
    return {
        "model": [row["model"] for row in rows],
        **(cost if wide else {}),
        "steps": [f"{row['steps']:.0f}" for row in rows],
        "val IoU": [f"{row['validation_iou']:.3f}" for row in rows],
        "test IoU": [_interval(row["iou"]) for row in rows],
        **({f"less {rows[0]['model']}'s": differences} if len(rows) > 1 else {}),
    }


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.0f}"


def _interval(value: Mapping[str, float], sign: str = "") -> str:
    text = f"{value['mean']:{sign}.3f}"
    return f"{text} \\[{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"
