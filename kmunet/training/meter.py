"""How fast a training is and how long it still takes: passed on now and then.

Reading the sums waits for the device, so it is done at most twice a second, and at an
epoch's first and last step. Nothing here is written to a file or changes a number.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from kmunet.training.batches import Batch
from kmunet.training.checkpoint import TrainingState
from kmunet.training.overlap import RunningOverlap
from kmunet.training.reporter import Progress, Reporter
from kmunet.training.stopping import Stopping
from kmunet.training.utilisation import forget_peak, peak_memory, peak_rate

if TYPE_CHECKING:
    from kmunet.config import TrainParams

logger = logging.getLogger("kmunet.training")

_EVERY = 0.5  # seconds
_SETTLED = 1.0  # seconds of steps, before the device's peak is worth measuring
_STARVED = 0.2  # of an epoch's steps spent waiting for images: worth a word


class Meter:
    """Of one run; speaks on rank 0 alone."""

    def __init__(
        self,
        reporter: Reporter,
        params: "TrainParams",
        model: nn.Module,
        stopping: Stopping,
        images: tuple[int, int],
    ) -> None:
        """images: to train on and to validate on."""
        self._reporter, self._params = reporter, params
        self._model, self._stopping = model, stopping
        self._epoch_steps = images[0] // params.batch_size
        self._validated = images[1]
        self._start, self._spoken, self._seen = time.monotonic(), 0.0, 0
        self._busy, self._steps = 0.0, 0  # in the epochs before this one
        self._ends: list[float] = []  # seconds of validation and saving, an epoch each
        self._ended: float | None = None
        self._waited, self._warned = 0.0, False  # seconds in this epoch; of waiting
        self._peak: float | None = None  # images a second, were all of it products
        self._measured = False
        self._warm = False

    def begin(self) -> None:
        """The steps of an epoch begin, or go on."""
        now = time.monotonic()
        if self._ended is not None:
            self._ends.append(now - self._ended)
        self._start, self._seen, self._ended = now, 0, None
        self._waited = 0.0

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; how long the next one was waited for is counted.

        Not the first, for which loaders may have to start.
        """
        coming = iter(batches)
        before = None
        while (batch := next(coming, None)) is not None:
            if before is not None:
                self._waited += time.monotonic() - before
            yield batch
            before = time.monotonic()

    def show(
        self, state: TrainingState, overlap: RunningOverlap, image: Tensor
    ) -> None:
        """Report the epoch's mean loss and IoU so far; `image` is the last batch."""
        self._seen += 1
        now = time.monotonic()
        ends = self._seen == 1 or state.batch == self._epoch_steps
        if not self._reporter.rank and (now - self._spoken >= _EVERY or ends):
            self._spoken = now
            self._speak(state, overlap, image)
        if not self._warm:  # the first step has tuned kernels
            self._warm = True
            forget_peak(image.device)
        if state.batch == self._epoch_steps:
            self._ended = time.monotonic()
            self._busy += self._ended - self._start
            self._steps += self._seen
            self._warn_if_starved(self._ended - self._start, state, image)

    def _warn_if_starved(
        self, busy: float, state: TrainingState, image: Tensor
    ) -> None:
        """Once, of a GPU; a CPU reads images itself, or shares its cores."""
        share = self._waited / max(busy, 1e-9)
        quiet = self._warned or self._reporter.rank or image.device.type == "cpu"
        if quiet or busy < _SETTLED or share < _STARVED:
            return
        self._warned = True
        logger.warning(
            "the GPU waited for images in %.0f %% of epoch %d: raise "
            "train.loader_workers, processes that read and augment ahead (%d now; this "
            "machine has %d cores), or take cheaper transforms",
            100 * share,
            state.epoch + 1,
            self._params.loader_workers,
            os.cpu_count() or 1,
        )

    def left(self, state: TrainingState) -> float:
        """Seconds for the steps and the validations that are left, at this pace.

        Patience may end it sooner. Until the first validation is measured, it is taken
        for a forward pass, a third of a step.
        """
        busy = self._busy + time.monotonic() - self._start
        step = busy / (self._steps + self._seen)
        guess = self._validated * step / self._params.batch_size / 3
        end = sum(self._ends) / len(self._ends) if self._ends else guess
        steps = self.steps() - state.step
        left = steps * step + end * -(-max(steps, 1) // self._epoch_steps)
        if self._params.max_minutes is None:
            return left
        return min(
            left, max(0.0, 60 * self._params.max_minutes - self._stopping.seconds())
        )

    def steps(self) -> int:
        """Of the whole training."""
        whole = self._params.epochs * self._epoch_steps
        return min(whole, self._params.max_steps or whole)

    def _speak(
        self, state: TrainingState, overlap: RunningOverlap, image: Tensor
    ) -> None:
        iou, _, loss, images = overlap.sums.tolist()
        busy = max(time.monotonic() - self._start, 1e-9)
        rate = self._seen * self._params.batch_size / busy
        self._reporter.progress(
            Progress(
                epoch=state.epoch + 1,
                epochs=self._params.epochs,
                step=state.step,
                steps=self.steps(),
                loss=loss / images,
                iou=iou / images,
                images_per_second=rate,
                seconds_left=self.left(state),
                memory=peak_memory(image.device),
                peak_share=self._share(rate, busy, image),
            )
        )

    def _share(self, rate: float, busy: float, image: Tensor) -> float | None:
        """Of the device's measured peak; measured once, when a training is no trial."""
        if not self._measured and self._busy + busy >= _SETTLED:
            self._measured = True
            before = time.monotonic()
            with self._stopping.paused():
                self._peak = peak_rate(self._model, self._params, image)
            self._start += time.monotonic() - before  # no part of a step
        own = rate / self._reporter.world_size
        return own / self._peak if self._peak else None
