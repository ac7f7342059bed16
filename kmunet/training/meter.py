"""How fast a training is: passes progress on now and then, as reading it costs."""

import time
from typing import TYPE_CHECKING

from kmunet.training.checkpoint import TrainingState
from kmunet.training.overlap import RunningOverlap
from kmunet.training.reporter import Progress, Reporter

if TYPE_CHECKING:
    from kmunet.config import TrainParams

_EVERY = 0.25  # seconds: each look waits for the device


class Meter:
    """Of one epoch; speaks at its first and last step and a few times a second."""

    def __init__(
        self, reporter: Reporter, params: "TrainParams", epoch_steps: int
    ) -> None:
        self._reporter, self._params, self._steps = reporter, params, epoch_steps
        self._start, self._spoken, self._seen = time.monotonic(), 0.0, 0

    def show(self, state: TrainingState, overlap: RunningOverlap) -> None:
        """Report the epoch's mean loss and IoU so far; rank 0 alone."""
        self._seen += 1
        now = time.monotonic()
        ends = self._seen == 1 or state.batch == self._steps
        if self._reporter.rank or (now - self._spoken < _EVERY and not ends):
            return
        self._spoken = now
        iou, _, loss, images = overlap.sums.tolist()
        rate = self._seen * self._params.batch_size / max(now - self._start, 1e-9)
        self._reporter.progress(
            Progress(
                epoch=state.epoch + 1,
                epochs=self._params.epochs,
                step=state.step,
                steps=self._params.epochs * self._steps,
                loss=loss / images,
                iou=iou / images,
                images_per_second=rate,
            )
        )
