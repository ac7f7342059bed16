"""Time left, memory and the share of the peak: honest, and of no effect on training."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kmunet.models import build_model
from kmunet.models.cost import flops
from kmunet.training import LocalReporter, fit, meter, utilisation
from kmunet.training.checkpoint import TrainingState
from kmunet.training.meter import Meter
from kmunet.training.overlap import RunningOverlap
from kmunet.training.stopping import Stopping

CPU = torch.device("cpu")


def test_looking_on_changes_no_bit(model, data, params, tmp_path, monkeypatch):
    """Though the peak is measured in the middle, and pictures are taken."""
    monkeypatch.setattr(meter, "_SETTLED", 0.0)
    monkeypatch.setattr(meter, "_EVERY", 0.0)
    seen, shown = [], []
    reporter = LocalReporter(tmp_path / "seen", seen.append, on_pictures=shown.append)
    state = fit(model, data, params(), reporter)
    assert [p.epoch for p in shown] == [1, 2]
    assert all(p.peak_share > 0 and p.memory > 2**20 for p in seen)
    assert all(p.seconds_left > 0 for p in seen)
    monkeypatch.setattr(meter, "_SETTLED", math.inf)
    monkeypatch.setattr(meter, "_EVERY", math.inf)
    torch.manual_seed(0)
    twin = build_model("km_unet", widths=(32, 40, 48))
    quiet = LocalReporter(tmp_path / "quiet", on_progress=seen.append)
    assert fit(twin, data, params(), quiet) == state
    assert seen[-1].peak_share is None
    for one, other in zip(
        model.state_dict().values(), twin.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


class Clock:
    """Stands still but when told."""

    now = 0.0

    def monotonic(self):
        return self.now

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def _run(clock, chosen, steps, told):
    """Epochs of 4 steps of 2 s, with validations of 3 s, up to a step."""
    state = TrainingState()
    reporter = LocalReporter(None, told.append)
    stopping = Stopping(chosen, state)
    own = Meter(reporter, chosen, nn.Identity(), stopping, (16, 6))
    overlap = RunningOverlap(CPU)
    overlap.sums += 1
    own.begin()
    for step in range(1, steps + 1):
        clock.now += 2
        state.step, state.batch = step, (step - 1) % 4 + 1
        own.show(state, overlap, torch.zeros(4, 3, 32, 32))
        if state.batch == 4:
            state.epoch += 1
            clock.now += 3
            own.begin()


def test_the_time_left_counts_validations(clock, params):
    told = []
    _run(clock, params(epochs=3), 12, told)
    left = {p.step: p.seconds_left for p in told}
    assert left[1] == 11 * 2 + 3 * 6 * (2 / 4 / 3)  # three validations, guessed
    assert left[5] == 7 * 2 + 2 * 3  # two, as the first one was measured
    assert left[12] == 3
    assert {p.images_per_second for p in told} == {2.0}


@pytest.mark.parametrize(
    ("device", "seconds", "warned"), [("meta", 1.0, 1), ("meta", 0.1, 0), ("cpu", 1, 0)]
)
def test_a_gpu_that_waits_for_images_is_told_of(
    clock, params, caplog, device, seconds, warned
):
    """ "meta" stands for a device that is no CPU. Two epochs; a step takes 2 s."""
    state, told = TrainingState(), LocalReporter(None, [].append)
    own = Meter(told, params(), nn.Identity(), Stopping(params(), state), (16, 6))
    own._measured = True
    overlap = RunningOverlap(CPU)
    overlap.sums += 1
    image = torch.zeros(4, 3, 32, 32, device=device)

    def slow():
        for _ in range(4):
            clock.now += seconds
            yield image, image[:, :1]

    for _ in range(2):
        own.begin()
        for batch, _ in own.watched(slow()):
            clock.now += 2
            state.step, state.batch = state.step + 1, state.batch % 4 + 1
            own.show(state, overlap, batch)
        state.epoch += 1
    found = [r.getMessage() for r in caplog.records if "waited" in r.getMessage()]
    assert len(found) == warned
    assert all("in 25 % of epoch 1: raise train.loader_workers" in m for m in found)


def test_a_gpu_s_peak_is_without_the_tuning_of_the_first_step(
    clock, params, monkeypatch
):
    peak = {"bytes": 300}  # with the tuner's buffer
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda _: peak["bytes"])
    monkeypatch.setattr(
        cuda, "reset_peak_memory_stats", lambda _: peak.update(bytes=20)
    )
    told, state = [], TrainingState()
    reporter, stopping = LocalReporter(None, told.append), Stopping(params(), state)
    own = Meter(reporter, params(), nn.Identity(), stopping, (16, 6))
    own._measured = True
    overlap = RunningOverlap(CPU)
    overlap.sums += 1
    own.begin()
    for state.step in (1, 2, 3):
        clock.now += 2
        peak["bytes"] = max(peak["bytes"], 44)
        own.show(state, overlap, SimpleNamespace(device=torch.device("cuda")))
    assert [p.memory for p in told] == [300, 44, 44]


@pytest.mark.parametrize(
    ("budget", "steps", "left"),
    [({"max_steps": 6}, 6, 5 * 2 + 2 * 1), ({"max_minutes": 0.05}, 12, 3.0)],
)
def test_the_time_left_knows_the_budgets(clock, params, budget, steps, left):
    told = []
    _run(clock, params(epochs=3, **budget), 1, told)
    assert told[0].steps == steps
    assert told[0].seconds_left == pytest.approx(left, abs=0.1)


def test_operations_of_a_convolution_are_those_by_hand():
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    image = torch.zeros(7, 3, 128, 128)
    by_hand = 2 * 3 * 8 * 9 * 128 * 128
    assert utilisation.forward_operations(layer, image) == by_hand


def test_a_small_image_is_counted_for_a_large_one():
    model = build_model("km_unet", widths=(32, 40, 48))
    found = utilisation.forward_operations(model, torch.zeros(1, 3, 128, 128))
    assert found == pytest.approx(flops(model, 128), rel=0.03)


def test_a_model_that_cannot_be_counted_has_no_share(params):
    class Odd(nn.Module):
        def forward(self, x):
            raise RuntimeError("no")

    assert utilisation.peak_rate(Odd(), params(), torch.zeros(1, 3, 64, 64)) is None


def test_memory_is_the_most_so_far():
    before = utilisation.peak_memory(CPU)
    held = torch.ones(2**24)  # 64 MB
    assert held.sum() == 2**24
    assert utilisation.peak_memory(CPU) >= before
    del held
    assert utilisation.peak_memory(CPU) >= before
