"""What a training keeps from one call on a lent GPU to the next.

Reporter and budget of `fit` in one: checkpoints every few minutes and where the call's
time ends, and with them the time that the training has had.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from kmunet.errors import CheckpointError
from kmunet.training import LocalReporter, Progress

EVERY = 120.0  # seconds from one checkpoint to the next, at the end of an epoch
FILE = "spent.json"  # in every checkpoint
FIRST_SAID, SAID = 20.0, 30.0  # seconds


class Kept(LocalReporter):
    """Checkpoints in a folder; `minutes` to train for, or None; `stops`: when to stop.

    The minutes begin after each start's first step, which compiles and tunes kernels;
    those before an interruption count.
    """

    def __init__(
        self, folder: Path, minutes: float | None = None, stops: float | None = None
    ) -> None:
        """stops: by time.monotonic."""
        super().__init__(folder, on_progress=Said(self.left))
        self.minutes, self.stops = minutes, stops
        self.spent = 0.0  # seconds of the budget
        self._saved = time.monotonic()
        self._first: int | None = None  # step of this start
        self._mark: float | None = None

    def share(self, step: int) -> float | None:
        if self.minutes is None:
            return None
        if self._first is None:
            self._first = step
        if step > self._first:
            self._charge()
        return self.spent / (60 * self.minutes)

    def left(self) -> float | None:
        """Seconds of the budget, if there is one."""
        return None if self.minutes is None else 60 * self.minutes - self.spent

    @contextmanager
    def paused(self) -> Iterator[None]:
        if self._mark is not None:
            self._charge()
        yield
        if self._mark is not None:
            self._mark = time.monotonic()

    def save_now(self) -> bool:
        return time.monotonic() - self._saved >= EVERY

    def should_stop(self) -> bool:
        return self.stops is not None and time.monotonic() >= self.stops

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        if checkpoint is not None:
            text = json.dumps({"seconds": self.spent})
            (checkpoint / FILE).write_text(text, encoding="utf-8")
            self._saved = time.monotonic()
        super().report(metrics, checkpoint)

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        return [self._restoring(opened) for opened in super().checkpoints()]

    @contextmanager
    def _restoring(self, opened: AbstractContextManager[Path]) -> Iterator[Path]:
        """`fit` goes on from the last one that it opens."""
        with opened as folder:
            try:
                text = (folder / FILE).read_text(encoding="utf-8")
                self.spent = float(json.loads(text)["seconds"])
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise CheckpointError(f"{folder / FILE}: damaged ({error})") from None
            yield folder

    def _charge(self) -> None:
        now = time.monotonic()
        self.spent += now - (now if self._mark is None else self._mark)
        self._mark = now


class Said:
    """Says how far it is, after 20 s and then twice a minute, and how long it takes.

    By the steps so far, but where `budget` has seconds that are left.
    """

    def __init__(
        self,
        budget: Callable[[], float | None],
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._budget, self._say = budget, say or partial(print, flush=True)
        self._start: tuple[int, float] | None = None  # steps done, when
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._start is None:  # after the first step: that one compiles
            self._start, self._next = (progress.step, now), now + FIRST_SAID
        if now < self._next:
            return
        self._next = now + SAID
        step, start = self._start
        left = self._budget()
        if left is None:
            pace = (now - start) / max(1, progress.step - step)
            left = (progress.steps - progress.step) * pace
        self._say(
            f"epoch {progress.epoch}, loss {progress.loss:.4f}, "
            f"{progress.images_per_second:.0f} images/s, "
            f"about {left / 60:.1f} minutes left"
        )
