"""Who is told on the driver what a training's workers do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kmunet.training.reporter import Pictures, Progress


def _ignore(_: Any) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Onlookers:
    """Called by a thread of the driver: a slow one delays the others, not training."""

    progress: Callable[[Progress], None] = _ignore
    report: Callable[[dict[str, float]], None] = _ignore
    pictures: Callable[[Pictures], None] = _ignore
    pictures_every: int = 0  # epochs; 0: none
