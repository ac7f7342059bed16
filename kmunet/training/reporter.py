"""The seam to the cluster: `fit` speaks to a Reporter and cannot tell which it is."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """How far training is: `step` of `steps` over all epochs, and the last values."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    iou: float
    images_per_second: float


class Reporter(Protocol):
    """What `fit` needs to know of the processes around it."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """End an epoch on every rank; only rank 0 brings a checkpoint folder."""

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        """The folders that were reported, the newest first; none at a first start."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is. Called by rank 0 alone; must not block."""

    def should_stop(self) -> bool:
        """Whether to save and end after this step. Asked every step: must be quick."""


@dataclass
class LocalReporter:
    """One process, the last two checkpoints in a folder; for tests and one GPU."""

    folder: Path
    on_progress: Callable[[Progress], None] | None = None
    reports: list[dict[str, float]] = field(default_factory=list)
    rank: int = 0
    world_size: int = 1
    stop: bool = False

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.reports.append(metrics)
        if checkpoint is None:
            return
        fresh, latest, before = self._places()
        rmtree(fresh, ignore_errors=True)
        copytree(checkpoint, fresh)
        rmtree(before, ignore_errors=True)
        if latest.exists():
            latest.rename(before)
        fresh.rename(latest)

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        _, *kept = self._places()
        return [nullcontext(place) for place in kept if place.is_dir()]

    def progress(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)

    def should_stop(self) -> bool:
        return self.stop

    def _places(self) -> tuple[Path, Path, Path]:
        names = ("incoming", "latest", "previous")
        fresh, latest, before = (self.folder / name for name in names)
        return fresh, latest, before
