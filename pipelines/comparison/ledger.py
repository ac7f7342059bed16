"""What a training has spent, and whether that is its budget: for one process.

CPU time is that of the process, its threads and the loaders that have ended, user and
system: a busy machine does not change it as it does the time on the wall.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kmunet.errors import CheckpointError
from kmunet.training import LocalReporter, Pictures, Progress
from pipelines.comparison.memory import peak_memory
from pipelines.comparison.request import Limit

FILE = "spent.json"  # in every checkpoint: what went before counts after it
EVERY = 20.0  # seconds from one checkpoint to the next, at the end of an epoch
Message = dict[str, Any]


@dataclass
class Spent:
    """Seconds and bytes since the first start; saving is not counted."""

    wall: float = 0.0
    cpu: float = 0.0
    timed: int = 0  # steps that began where the one before ended
    timed_wall: float = 0.0
    timed_cpu: float = 0.0
    memory: int = 0  # peak
    epochs: list[dict[str, float]] = field(default_factory=list)


class Ledger:
    """The Reporter and the Budget of `fit` in one."""

    rank, world_size = 0, 1

    def __init__(
        self, folder: Path, limit: Limit, say: Callable[[Message], None]
    ) -> None:
        self.spent, self.stop = Spent(), False
        self._limit, self._say = limit, say
        self._files = LocalReporter(folder)
        self._mark, self._saved = _now(), time.monotonic()
        self._step_began: tuple[float, float] | None = None

    def share(self, step: int) -> float | None:
        """Of the budget; epochs are counted by `fit` itself."""
        self._charge()
        if self._limit.kind == "minutes":
            return self.spent.wall / (60 * self._limit.amount)
        if self._limit.kind == "cpu_minutes":
            return self.spent.cpu / (60 * self._limit.amount)
        return step / self._limit.amount if self._limit.kind == "steps" else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Charge what was done so far, and nothing that is done inside."""
        self._charge()
        self._step_began = None
        yield
        self._mark = _now()

    def save_now(self) -> bool:
        """A few times a minute: after a short epoch it would take longer than that."""
        return time.monotonic() - self._saved >= EVERY

    def wants_pictures(self, epoch: int) -> bool:
        return False

    def pictures(self, pictures: Pictures) -> None:
        """Nobody looks."""

    def should_stop(self) -> bool:
        """Asked once a step: measures it, too."""
        now = _now()
        if self._step_began is not None:
            self.spent.timed += 1
            self.spent.timed_wall += now[0] - self._step_began[0]
            self.spent.timed_cpu += now[1] - self._step_began[1]
        self._step_began = now
        return self.stop

    def progress(self, progress: Progress) -> None:
        share = self.share(progress.step)
        if share is None:
            share = progress.step / progress.steps
        self._say(
            {
                "share": min(1.0, share),
                "epoch": progress.epoch,
                "step": progress.step,
                "loss": progress.loss,
                "iou": progress.iou,
                "images_per_second": progress.images_per_second,
            }
        )

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self._step_began = None  # validation was no part of a step
        if "epoch" in metrics:
            now = {"wall": self.spent.wall, "cpu": self.spent.cpu}
            self.spent.epochs.append({**metrics, **now})
        self.spent.memory = max(self.spent.memory, peak_memory())
        if checkpoint is not None:
            text = json.dumps(asdict(self.spent))
            (checkpoint / FILE).write_text(text, encoding="utf-8")
            self._saved = time.monotonic()
        self._files.report(metrics, checkpoint)

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        return [self._restoring(opened) for opened in self._files.checkpoints()]

    @contextmanager
    def _restoring(self, opened: AbstractContextManager[Path]) -> Iterator[Path]:
        """`fit` goes on from the last one that it opens."""
        with opened as folder:
            try:
                text = (folder / FILE).read_text(encoding="utf-8")
                self.spent = Spent(**json.loads(text))
            except (OSError, ValueError, TypeError) as error:
                raise CheckpointError(f"{folder / FILE}: damaged ({error})") from None
            self._mark = _now()
            yield folder

    def _charge(self) -> None:
        now = _now()
        self.spent.wall += now[0] - self._mark[0]
        self.spent.cpu += now[1] - self._mark[1]
        self._mark = now


def _now() -> tuple[float, float]:
    """Seconds on the wall and of CPU."""
    return time.monotonic(), sum(os.times()[:4])
