"""The seam to the cluster: `fit` speaks to a Reporter and cannot tell which it is."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kmunet.training.space import copy_checkpoint


@dataclass(frozen=True)
class Progress:
    """How far training is: `step` of `steps` over all epochs, and the last values.

    memory: bytes, the most that rank 0 has taken. peak_share: of the arithmetic that
    its device reached in a measurement (None: not measured).
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    iou: float
    images_per_second: float
    seconds_left: float | None = None
    memory: int = 0
    peak_share: float | None = None


@dataclass(frozen=True)
class Pictures:
    """The first validation images after an epoch, to be looked at."""

    epoch: int
    images: NDArray[np.uint8]  # (N, H, W, 3), RGB
    truth: NDArray[np.uint8]  # (N, H, W), 0 or the class
    predicted: NDArray[np.uint8]  # (N, H, W)
    iou: NDArray[np.float64]  # (N,)
    classes: int = 1


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

    def wants_pictures(self, epoch: int) -> bool:
        """Whether somebody looks at this epoch's predictions (epochs from 1)."""
        return False

    def pictures(self, pictures: Pictures) -> None:
        """Show predictions. Called by rank 0 alone, if wanted; must not block."""

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
    on_pictures: Callable[[Pictures], None] | None = None

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.reports.append(metrics)
        if checkpoint is None:
            return
        fresh, latest, before = self._places()
        rmtree(fresh, ignore_errors=True)
        copy_checkpoint(checkpoint, fresh)
        rmtree(before, ignore_errors=True)
        if latest.exists():
            latest.rename(before)
        fresh.rename(latest)

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        return [nullcontext(place) for place in self._places() if place.is_dir()]

    def progress(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)

    def wants_pictures(self, epoch: int) -> bool:
        return self.on_pictures is not None

    def pictures(self, pictures: Pictures) -> None:
        if self.on_pictures is not None:
            self.on_pictures(pictures)

    def should_stop(self) -> bool:
        return self.stop

    def _places(self) -> tuple[Path, Path, Path]:
        """The newest first; `incoming` is there where a kill came between two names."""
        names = ("incoming", "latest", "previous")
        fresh, latest, before = (self.folder / name for name in names)
        return fresh, latest, before
