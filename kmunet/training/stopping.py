"""When a training ends: epochs, a budget of steps or time, or no more progress."""

import time
from typing import TYPE_CHECKING

from kmunet.training.checkpoint import TrainingState

if TYPE_CHECKING:
    from kmunet.config import TrainParams


class Stopping:
    """Watches the budgets; time counts over interruptions too."""

    def __init__(self, params: "TrainParams", state: TrainingState) -> None:
        self._params, self._before = params, state.seconds
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Spent on this training so far."""
        return self._before + time.monotonic() - self._start

    def out_of_time(self) -> bool:
        """Whether the budget of time is spent: the epoch is cut short and kept."""
        minutes = self._params.max_minutes
        return minutes is not None and self.seconds() >= 60 * minutes

    def out_of_steps(self, state: TrainingState) -> bool:
        """Whether the budget of steps is spent: the epoch is cut short and kept."""
        steps = self._params.max_steps
        return steps is not None and state.step >= steps

    def reason(self, state: TrainingState) -> str | None:
        """Why no further epoch begins, in words; None: one does."""
        params = self._params
        if state.epoch >= params.epochs:
            return f"{params.epochs} epochs"
        if self.out_of_steps(state):
            return f"train.max_steps {params.max_steps}"
        if params.max_minutes is not None and state.spent:
            return f"train.max_minutes {params.max_minutes:g}"
        waited = state.epoch - state.best_epoch
        if params.patience is not None and state.epoch and waited >= params.patience:
            return f"no better validation IoU for {waited} epochs (train.patience)"
        return None
