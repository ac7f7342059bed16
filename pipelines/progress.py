"""Training progress: a live bar on a terminal, a line now and then in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar

from kmunet.training.reporter import Progress


class TrainingProgress:
    """Shows loss, IoU, speed, share of the device, memory and the time left."""

    def __init__(self, console: Console | None = None, every: float = 10.0) -> None:
        self.console = console or Console()
        self.live = self.console.is_terminal
        self.every = every
        self.bar = Bar(*_columns(), console=self.console, disable=not self.live)
        self.task = self.bar.add_task("train", total=None, values="")
        self.spoken = time.monotonic()
        self.epoch = 0

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def update(self, progress: Progress) -> None:
        """Show the newest state; in a log, one line an epoch or every few seconds."""
        self.bar.update(
            self.task,
            completed=progress.step,
            total=progress.steps,
            description=f"epoch {progress.epoch}/{progress.epochs}",
            values=_values(progress),
        )
        if not self.live and self._due(progress):
            self.console.print(
                f"epoch {progress.epoch}/{progress.epochs} "
                f"step {progress.step}/{progress.steps} {_values(progress)}",
                highlight=False,
                soft_wrap=True,
            )

    def _due(self, progress: Progress) -> bool:
        now = time.monotonic()
        if progress.epoch == self.epoch and now - self.spoken < self.every:
            return False
        self.epoch, self.spoken = progress.epoch, now
        return True


def _values(progress: Progress) -> str:
    parts = [
        f"loss {progress.loss:.4f} IoU {progress.iou:.4f}",
        f"{progress.images_per_second:.1f} images/s",
    ]
    if progress.peak_share is not None:
        parts.append(f"{100 * progress.peak_share:.0f} % of the measured peak")
    if progress.memory:
        parts.append(f"{progress.memory / 1e9:.2f} GB")
    if progress.seconds_left is not None:
        parts.append(f"left {_clock(progress.seconds_left)}")
    return " ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
    )
