"""The seam to the cluster: `fit` speaks to a Reporter and cannot tell which it is."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        """Open the folder that was reported last, or None at a first start."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is. Called by rank 0 alone; must not block."""


@dataclass
class LocalReporter:
    """One process, checkpoints in a folder; for tests, benchmarks and one GPU."""

    folder: Path
    on_progress: Callable[[Progress], None] | None = None
    reports: list[dict[str, float]] = field(default_factory=list)
    rank: int = 0
    world_size: int = 1

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.reports.append(metrics)
        if checkpoint is None:
            return
        fresh, latest = self.folder / "incoming", self.folder / "latest"
        rmtree(fresh, ignore_errors=True)
        copytree(checkpoint, fresh)
        rmtree(latest, ignore_errors=True)
        fresh.rename(latest)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        latest = self.folder / "latest"
        yield latest if latest.is_dir() else None

    def progress(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)
