"""The loop: it learns, repeats itself bit by bit, resumes exactly, and stops on NaN."""

import copy
import math

import pytest
import torch

from kmunet.errors import CheckpointError, TrainingError
from kmunet.training import LocalReporter, fit


def _weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns(model, data, params, tmp_path):
    state = fit(model, data, params(epochs=6, lr=1e-2), LocalReporter(tmp_path))
    losses = [row["train_loss"] for row in state.history]
    assert losses == sorted(losses, reverse=True)
    assert state.history[-1]["val_iou"] > 2 * state.history[0]["val_iou"]
    assert state.best_iou == max(row["val_iou"] for row in state.history)


def test_the_same_seed_gives_the_same_bits(model, data, params, tmp_path):
    twin = copy.deepcopy(model)
    first = fit(model, data, params(), LocalReporter(tmp_path / "a"))
    second = fit(twin, data, params(), LocalReporter(tmp_path / "b"))
    assert first == second
    assert _same(_weights(model), _weights(twin))


class _StoppedError(Exception):
    pass


class _Stopping(LocalReporter):
    def report(self, metrics, checkpoint):
        super().report(metrics, checkpoint)
        if metrics["epoch"] == 2:
            raise _StoppedError


def test_a_stopped_run_resumes_to_the_same_bits(model, data, params, tmp_path):
    whole, part = copy.deepcopy(model), copy.deepcopy(model)
    expected = fit(whole, data, params(epochs=4), LocalReporter(tmp_path / "whole"))
    with pytest.raises(_StoppedError):
        fit(part, data, params(epochs=4), _Stopping(tmp_path / "part"))
    fresh = copy.deepcopy(model)
    found = fit(fresh, data, params(epochs=4), LocalReporter(tmp_path / "part"))
    assert found == expected
    assert _same(_weights(whole), _weights(fresh))


def test_the_last_checkpoint_holds_the_best_weights(model, data, params, tmp_path):
    state = fit(model, data, params(), LocalReporter(tmp_path))
    names = {path.name for path in (tmp_path / "latest").iterdir()}
    assert names == {
        "weights.safetensors", "best.safetensors", "optimizer.safetensors",
        "state.json",
    }  # fmt: skip
    assert state.best_epoch in (1, 2)


def test_a_damaged_checkpoint_is_refused_by_name(model, data, params, tmp_path):
    fit(model, data, params(epochs=1), LocalReporter(tmp_path))
    (tmp_path / "latest" / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="latest: not a checkpoint of this run"):
        fit(model, data, params(epochs=2), LocalReporter(tmp_path))


def test_progress_counts_every_step(model, data, params, tmp_path):
    seen = []
    fit(model, data, params(), LocalReporter(tmp_path, seen.append))
    assert [p.step for p in seen] == list(range(1, 9))
    assert {p.steps for p in seen} == {8}
    assert all(math.isfinite(p.loss) and 0 <= p.iou <= 1 for p in seen)


def test_a_loss_that_is_not_finite_stops_at_once(model, data, params, tmp_path):
    with torch.no_grad():
        model.final.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: lower train\.lr"):
        fit(model, data, params(), LocalReporter(tmp_path))


def test_fewer_images_than_a_batch_is_an_error(model, data, params, tmp_path):
    with pytest.raises(TrainingError, match="batch_size 32 is more than the 16"):
        fit(model, data, params(batch_size=32), LocalReporter(tmp_path))
