"""A budget ends a training in good order, and its schedule with it."""

import math
from contextlib import contextmanager

import pytest

from kmunet.training import LocalReporter, fit


class Counted:
    """Spent after some steps; notes what is saved while it is paused."""

    def __init__(self, steps, reporter):
        self.steps, self.reporter, self.saved = steps, reporter, []

    def share(self, step):
        return step / self.steps

    @contextmanager
    def paused(self):
        before = len(self.reporter.reports)
        yield
        self.saved += self.reporter.reports[before:]

    def save_now(self):
        return len(self.reporter.reports) % 2 == 0


def test_it_cuts_an_epoch_short_and_keeps_it(model, data, params, tmp_path):
    """Four steps an epoch; the tenth finds all spent: 9 of 9 before it."""
    reporter = LocalReporter(tmp_path)
    budget = Counted(9, reporter)
    state = fit(model, data, params(epochs=1000), reporter, budget)
    assert (state.step, state.epoch, state.spent) == (10, 3, True)
    assert len(state.history) == 3
    # Asked after each epoch: the first and, as the last one, the third.
    assert [row["epoch"] for row in budget.saved] == [1, 3]
    assert (tmp_path / "latest" / "best.safetensors").exists()
    again = fit(model, data, params(epochs=1000), LocalReporter(tmp_path), budget)
    assert again.step == 10


def test_the_cosine_follows_it(model, data, params, tmp_path):
    reporter = LocalReporter(tmp_path)
    chosen = params(epochs=1000, lr=0.01, min_lr=0.001)
    fit(model, data, chosen, reporter, Counted(12, reporter))
    rates = [row["lr"] for row in reporter.reports]
    # Of an epoch's last step, with what is spent before it.
    spent = [3 / 12, 7 / 12, 11 / 12, 1]
    cosines = [0.5 * (1 + math.cos(math.pi * share)) for share in spent]
    assert rates == pytest.approx([0.001 + 0.009 * c for c in cosines])


def test_several_ranks_would_not_agree_on_it(model, data, params, tmp_path):
    reporter = LocalReporter(tmp_path, world_size=2)
    with pytest.raises(ValueError, match="a budget is for one rank"):
        fit(model, data, params(), reporter, Counted(3, reporter))
