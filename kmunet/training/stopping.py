"""When a training ends: epochs, a budget of steps or time, or no more progress."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from kmunet.training.checkpoint import TrainingState

if TYPE_CHECKING:
    from kmunet.config import TrainParams


class Budget(Protocol):
    """What a training may spend besides `TrainParams`: one process has one."""

    def share(self, step: int) -> float | None:
        """How much is spent before `step` (from 0), 1 being all; asked twice a step.

        The learning rate falls with it instead of with the epochs; None: with these.
        """

    def paused(self) -> AbstractContextManager[None]:
        """Around what is no part of training: the saving of checkpoints."""

    def save_now(self) -> bool:
        """Whether an epoch ends with a checkpoint; the last one does anyway."""


class Stopping:
    """Watches the budgets; time counts over interruptions too."""

    def __init__(
        self,
        params: "TrainParams",
        state: TrainingState,
        budget: Budget | None = None,
    ) -> None:
        self._params, self._before = params, state.seconds
        self._budget = budget
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Spent on this training so far."""
        return self._before + time.monotonic() - self._start

    def share(self, state: TrainingState) -> float | None:
        """Of the budget spent, where there is one that the schedule follows."""
        found = self._budget.share(state.step) if self._budget is not None else None
        return None if found is None else min(1.0, found)

    def paused(self) -> AbstractContextManager[None]:
        """Around what the budget is not charged for."""
        return nullcontext() if self._budget is None else self._budget.paused()

    def save_now(self, state: TrainingState) -> bool:
        """Whether to write a checkpoint after this epoch."""
        last = self.reason(state) is not None
        return self._budget is None or last or self._budget.save_now()

    def out_of_time(self, state: TrainingState) -> bool:
        """Whether the budget of time is spent: the epoch is cut short and kept."""
        minutes = self._params.max_minutes
        spent = self.share(state)
        return (minutes is not None and self.seconds() >= 60 * minutes) or (
            spent is not None and spent >= 1
        )

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
        if self._budget is not None and state.spent:
            return "the budget is spent"
        waited = state.epoch - state.best_epoch
        if params.patience is not None and state.epoch and waited >= params.patience:
            return f"no better validation IoU for {waited} epochs (train.patience)"
        return None
