"""Batches are the same however many processes load them, and these are started once."""

import copy
import multiprocessing.util
import os
import threading
from contextlib import closing

import pytest
import runs
import torch

from kmunet.data.transforms import build_transform
from kmunet.errors import TrainingStoppedError
from kmunet.models import build_model
from kmunet.training import LocalReporter, TrainingData, fit
from kmunet.training.batches import Batches, ahead


class Augmented(runs.Squares):
    """Squares, each turned as its epoch and position say."""

    def __init__(self, length, seed):
        super().__init__(length, seed)
        flip, turn = ({"name": name} for name in ("HorizontalFlip", "RandomRotate90"))
        self.transform = build_transform([flip, turn], seed)

    def __getitem__(self, key):
        epoch, position = key
        item = super().__getitem__((0, position))
        image, mask = self.transform(
            item["image"].permute(1, 2, 0).numpy(),
            item["mask"].numpy(),
            epoch=epoch,
            image_id=str(position),
        )
        image = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return {"image": image, "mask": torch.from_numpy(mask.copy())}


class Broken(runs.Squares):
    def __getitem__(self, key):
        raise OSError(f"{key[1]}: cannot be read")


@pytest.fixture
def data():
    return TrainingData(Augmented(16, 1), runs.Squares(6, 2), (0.3,) * 3, (0.25,) * 3)


@pytest.fixture
def batches(data, params, tmp_path):
    def make(workers, data=data):
        chosen, reporter = params(loader_workers=workers), LocalReporter(tmp_path)
        return Batches(data, chosen, reporter, torch.device("cpu"))

    return make


def _same(first, second):
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def _processes():
    return {child.pid for child in multiprocessing.active_children()}


def test_epochs_that_are_left_and_taken_up_are_the_same(batches):
    alone, shared = batches(0), batches(2)
    first, second = list(alone.train(0)), list(alone.train(1))
    assert not torch.equal(first[0][0], second[0][0])
    started = shared.train(0)
    _same([next(started)], first[:1])
    del started  # with more of it loaded already
    _same(shared.train(1), second)
    _same(shared.train(1, 3), second[3:])
    _same(shared.validation(), list(alone.validation()))
    _same(shared.train(0), first)


def test_processes_are_started_once_and_end_with_the_batches(batches):
    shared, seen = batches(2), []
    for epoch in range(3):
        list(shared.train(epoch))
        list(shared.validation())
        seen.append(_processes())
    assert len(seen[0]) == 4
    assert seen == seen[:1] * 3
    shared.close()
    assert not _processes()


def test_loading_leaves_the_random_numbers_alone(batches):
    for workers in (0, 2):
        before = torch.get_rng_state()
        list(batches(workers).train(0))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_told(batches, workers):
    squares = runs.Squares(6, 2)
    broken = TrainingData(Broken(16, 1), squares, (0.3,) * 3, (0.25,) * 3)
    with (
        closing(batches(workers, broken)) as opened,
        pytest.raises(OSError, match="cannot be read"),
    ):
        list(opened.train(0))
    assert not _processes()


class EndsBadly(runs.Squares):
    """Its process ends with 1, as one does in which something else went wrong."""

    def __getitem__(self, key):
        multiprocessing.util.Finalize(None, os._exit, args=(1,), exitpriority=100)
        return super().__getitem__((0, key[1]))


def test_how_loading_processes_end_fails_no_training(batches):
    data = TrainingData(EndsBadly(16, 1), runs.Squares(6, 2), (0.3,) * 3, (0.25,) * 3)
    opened = batches(2, data)
    assert len(list(opened.train(0))) == 4
    opened.close()
    assert not _processes()


class _Stopping(LocalReporter):
    """Told to stop when it is asked for the n-th time."""

    asked, after = 0, 0

    def should_stop(self):
        self.asked += 1
        return self.asked == self.after


def test_loading_processes_train_to_the_same_bits(data, params, tmp_path):
    """Stopped in an epoch, and gone on with; with all that draws random numbers."""
    torch.manual_seed(0)
    alone = build_model("km_unet", widths=(32, 40, 48), drop_path=0.5)
    whole, part, resumed = (copy.deepcopy(alone) for _ in range(3))
    keeping = {"grid_updates": 1, "ema_decay": 0.9, "lr": 1e-2}
    one, two = params(**keeping), params(**keeping, loader_workers=2)
    expected = fit(alone, data, one, LocalReporter(tmp_path / "alone"))
    assert fit(whole, data, two, LocalReporter(tmp_path / "whole")) == expected
    stopping = _Stopping(tmp_path / "part")
    stopping.after = 6
    with pytest.raises(TrainingStoppedError, match="after step 6, and saved"):
        fit(part, data, two, stopping)
    assert not _processes()
    assert fit(resumed, data, two, LocalReporter(tmp_path / "part")) == expected
    for name, value in alone.state_dict().items():
        assert torch.equal(whole.state_dict()[name], value)
        assert torch.equal(resumed.state_dict()[name], value)


def test_a_thread_gets_the_next_while_one_is_used():
    begun = [threading.Event() for _ in range(4)]

    def source():
        for number, event in enumerate(begun):
            event.set()
            yield number

    found = []
    for number in ahead(source(), None):
        found.append(number)
        assert begun[min(number + 1, 3)].wait(10)
    assert found == [0, 1, 2, 3]


def test_a_thread_that_loads_ends_with_its_caller():
    def source():
        yield 0
        yield 1
        raise OSError("cannot be read")

    before = threading.active_count()
    with pytest.raises(OSError, match="cannot be read"):
        list(ahead(source(), None))
    left = ahead(source(), None)
    assert next(left) == 0
    left.close()
    assert threading.active_count() == before


def test_as_many_at_once_are_validated_as_learnt_from(data, params, tmp_path):
    """Memory for the whole batch may not be there, which `accumulate` is for."""
    chosen = params(accumulate=2)
    batches = Batches(data, chosen, LocalReporter(tmp_path), torch.device("cpu"))
    assert [len(image) for image, _ in batches.validation()] == [2, 2, 2]
    assert [len(image) for image, _ in batches.train(0)] == [4] * 4
