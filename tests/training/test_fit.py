"""The loop: it learns, repeats itself bit by bit, resumes exactly, and stops on NaN."""

import copy
import errno
import math
from pathlib import Path

import pytest
import runs
import safetensors.torch
import torch

from kmunet.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
    TrainingStoppedError,
)
from kmunet.models import build_model
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


class _Stopping(LocalReporter):
    """Told to stop when it is asked for the n-th time."""

    asked, after = 0, 0

    def should_stop(self):
        self.asked += 1
        return self.asked == self.after


# Everything that keeps something between steps.
KEEPING = {"ema_decay": 0.9, "clip": 0.5, "accumulate": 2, "warmup": 1, "lr": 1e-2}


@pytest.mark.parametrize(
    ("after", "budget"),
    [(1, {}), (4, {}), (6, {}), (6, {"max_steps": 6}), (1, {"max_minutes": 1e-6})],
    ids=str,
)
def test_a_stopped_run_resumes_to_the_same_bits(
    model, data, params, tmp_path, after, budget
):
    whole, part = copy.deepcopy(model), copy.deepcopy(model)
    chosen = params(epochs=2, **KEEPING, **budget)
    expected = fit(whole, data, chosen, LocalReporter(tmp_path / "whole"))
    stopping = _Stopping(tmp_path / "part")
    stopping.after = after
    with pytest.raises(TrainingStoppedError, match=f"after step {after}, and saved"):
        fit(part, data, chosen, stopping)
    found = fit(model, data, chosen, LocalReporter(tmp_path / "part"))
    assert found == expected
    assert _same(_weights(whole), _weights(model))
    assert stopping.reports[-1] == {"step": float(after)}


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


def test_a_state_with_another_number_in_it_is_refused(model, data, params, tmp_path):
    fit(model, data, params(epochs=1), LocalReporter(tmp_path))
    state = tmp_path / "latest" / "state.json"
    written = state.read_text()
    state.write_text(written.replace('"best_epoch": 1', '"best_epoch": 0'))
    assert state.read_text() != written
    with pytest.raises(CheckpointError, match=r"state\.json is not what was written"):
        fit(model, data, params(epochs=2), LocalReporter(tmp_path))


def test_a_checkpoint_of_another_model_is_refused(data, params, tmp_path):
    models = [build_model("km_unet", widths=(32, 40, w)) for w in (48, 56)]
    fit(models[0], data, params(epochs=1), LocalReporter(tmp_path))
    before = _weights(models[1])
    with pytest.raises(CheckpointError, match="not those of the model"):
        fit(models[1], data, params(epochs=2), LocalReporter(tmp_path))
    assert _same(before, _weights(models[1]))


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (Path, "read_bytes", OSError(errno.EIO, "disk")),
        (torch.nn.Module, "load_state_dict", torch.OutOfMemoryError("memory")),
        (torch.optim.AdamW, "load_state_dict", torch.OutOfMemoryError("memory")),
    ],
    ids=str,
)
def test_a_fault_of_the_machine_is_not_the_checkpoints(
    model, data, params, tmp_path, monkeypatch, caplog, owner, name, fault
):
    fit(model, data, params(), LocalReporter(tmp_path))

    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(type(fault), match=str(fault.args[-1])):
        fit(model, data, params(epochs=3), LocalReporter(tmp_path))
    assert "taking the one before" not in caplog.text


@pytest.mark.parametrize("name", ["weights", "optimizer", "best"])
def test_it_falls_back_to_the_checkpoint_before(
    model, data, params, tmp_path, caplog, name
):
    whole, part = copy.deepcopy(model), copy.deepcopy(model)
    expected = fit(whole, data, params(epochs=3), LocalReporter(tmp_path / "whole"))
    fit(part, data, params(epochs=3, max_steps=8), LocalReporter(tmp_path / "part"))
    damaged = tmp_path / "part" / "latest" / f"{name}.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1  # one bit: only the checksum sees it
    damaged.write_bytes(content)
    found = fit(model, data, params(epochs=3), LocalReporter(tmp_path / "part"))
    assert "taking the one before" in caplog.text
    assert found == expected
    assert _same(_weights(whole), _weights(model))


def test_progress_counts_steps(model, data, params, tmp_path):
    seen = []
    fit(model, data, params(), LocalReporter(tmp_path, seen.append))
    steps = [p.step for p in seen]
    assert steps == sorted(set(steps))
    assert {1, 4, 5, 8} <= set(steps) <= set(range(1, 9))
    assert {p.steps for p in seen} == {8}
    assert all(math.isfinite(p.loss) and 0 <= p.iou <= 1 for p in seen)


def test_a_loss_that_is_not_finite_stops_at_once(model, data, params, tmp_path):
    with torch.no_grad():
        model.final.weight.fill_(float("nan"))
    said = r"the loss is not finite in epoch 1, step 1: lower train\.lr"
    with pytest.raises(TrainingError, match=said):
        fit(model, data, params(), LocalReporter(tmp_path))


def test_weights_that_the_last_step_spoilt_are_not_kept(model, data, params, tmp_path):
    chosen = params(optimizer="adam", lr=10, kan_lr=10, epochs=1, max_steps=1)
    said = r"validation loss of epoch 1 is not finite: lower train\.lr"
    with pytest.raises(TrainingError, match=said):
        fit(model, data, chosen, LocalReporter(tmp_path))
    assert not (tmp_path / "latest").exists()


def test_fewer_images_than_a_batch_is_an_error(model, data, params, tmp_path):
    with pytest.raises(TrainingError, match="batch_size 32 is more than the 16"):
        fit(model, data, params(batch_size=32), LocalReporter(tmp_path))


def test_a_batch_in_parts_learns_the_same(model, data, params, tmp_path):
    """Where no norm looks over the batch, which parts cannot."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(module, name, torch.nn.Identity())
    twin = copy.deepcopy(model)
    first = fit(model, data, params(), LocalReporter(tmp_path / "a"))
    second = fit(twin, data, params(accumulate=4), LocalReporter(tmp_path / "b"))
    for one, two in zip(first.history, second.history, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_the_average_is_what_is_selected(model, data, params, tmp_path):
    state = fit(model, data, params(ema_decay=0.5), LocalReporter(tmp_path))
    load = safetensors.torch.load_file
    average = load(tmp_path / "latest" / "average.safetensors")
    best = load(tmp_path / "latest" / "best.safetensors")
    weights = load(tmp_path / "latest" / "weights.safetensors")
    assert state.averaged == 8
    assert not _same(weights, average)
    if state.best_epoch == 2:
        assert _same(best, average)
    assert _same(_weights(model), weights)


@pytest.mark.parametrize(
    ("budget", "epochs", "steps"),
    [({"max_steps": 6}, 2, 6), ({"max_minutes": 1e-6}, 1, 1), ({"patience": 1}, 2, 8)],
    ids=str,
)
def test_budgets_end_it(model, data, params, tmp_path, budget, epochs, steps):
    """The epoch that a budget cuts is validated and kept."""
    with torch.no_grad():  # so that no epoch is better than the first
        model.final.weight.zero_()
        model.final.bias.fill_(-50.0)
    chosen = params(epochs=9, lr=1e-9, kan_lr=1e-9, **budget)
    state = fit(model, data, chosen, LocalReporter(tmp_path))
    assert (state.epoch, state.step) == (epochs, steps)
    assert len(state.history) == epochs
    again = fit(model, data, chosen, LocalReporter(tmp_path))
    assert again == state  # a spent budget is spent


@pytest.mark.parametrize("loss", ["dice_ce", "tversky", "lovasz", "boundary"])
def test_every_loss_learns(model, data, params, tmp_path, loss):
    state = fit(model, data, params(loss=loss, lr=1e-2), LocalReporter(tmp_path))
    assert state.history[1]["train_loss"] < state.history[0]["train_loss"]


def test_bfloat16_follows_float32(model, data, params, tmp_path):
    twin = copy.deepcopy(model)
    exact = fit(model, data, params(), LocalReporter(tmp_path / "a"))
    short = params(precision="bfloat16")
    rough = fit(twin, data, short, LocalReporter(tmp_path / "b"))
    for one, two in zip(exact.history, rough.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=0.02)
        assert one["train_loss"] != two["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("choice", [True, "reduce-overhead"])
def test_a_compiled_model_learns_the_same(data, params, tmp_path, choice):
    losses = []
    for name, wanted in (("plain", False), ("compiled", choice)):
        chosen = params(compile=wanted, optimizer="sgd", epochs=1)
        (tmp_path / name).mkdir()
        reporter = LocalReporter(tmp_path / name)
        losses.append(fit(runs.small_model(), data, chosen, reporter).first_losses)
    # Rounding grows up to fiftyfold a step on images as small as these.
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=1e-4)
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)


def test_a_compiler_that_fails_is_told_with_the_remedy(
    model, data, params, tmp_path, monkeypatch
):
    """As torch 2.13's does for the published widths on a CPU, after two minutes."""

    def refuse(*_, **__):
        raise AssertionError("these ranges do not match")

    monkeypatch.setattr("torch._inductor.graph.GraphLowering.run", refuse)
    # Else what was compiled once is found on disk.
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    told = r"train\.compile: .*ranges do not match.* set train\.compile to false"
    with pytest.raises(TrainingError, match=told):
        fit(model, data, params(compile=True), LocalReporter(tmp_path))


def test_float16_needs_a_gpu(model, data, params, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"train\.precision: float16 needs a GPU"):
        fit(model, data, params(precision="float16"), LocalReporter(tmp_path))
