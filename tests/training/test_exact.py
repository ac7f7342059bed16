"""Exactness with real processes: killed at any step, or many ranks in place of one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import runs
import torch
from processes import run_ranks

from kmunet.errors import TrainingError

KEEPING = {
    "ema_decay": 0.9,
    "clip": 0.5,
    "warmup": 1,
    "lr": 1e-2,
    "checkpoint_steps": 1,
}


def _outcome(folder):
    weights = torch.load(Path(folder, "final.pt"), weights_only=True)
    return json.loads(Path(folder, "history.json").read_text()), weights


def _command(folder, params):
    values = json.dumps(params.model_dump(mode="json"))
    return [sys.executable, runs.__file__, str(folder), values]


def _kill_after(step, folder, params):
    """Start the training and kill it with SIGKILL once it says `step`."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        _command(folder, params), stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout:
            if int(line) >= step:
                process.kill()
                break


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(params, tmp_path):
    chosen = params(epochs=2, **KEEPING)
    runs.train_alone(tmp_path, chosen.model_dump())
    expected, weights = _outcome(tmp_path)
    folder = tmp_path / "killed"
    for step in (2, 5):
        _kill_after(step, folder, chosen)
        assert (folder / "latest" / "state.json").exists()
        assert not (folder / "final.pt").exists()
    runs.train_alone(folder, chosen.model_dump())
    found, resumed = _outcome(folder)
    assert found == expected
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


@pytest.mark.parametrize(
    ("count", "fitted", "parts"),
    [
        (2, 0, 1),
        (2, 0, 2),
        (3, 1, 1),
        pytest.param(3, 0, 2, marks=pytest.mark.slow),
        pytest.param(4, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_many_ranks_train_as_one(params, tmp_path, count, fitted, parts):
    """The same samples in the same batches with the same statistics: to rounding.

    SGD at a small rate: Adam makes steps of gradients that are nothing but rounding,
    and a large rate multiplies rounding. With statistics of each rank's own the
    losses differ by 2e-3 and running means by 5e-2. From 5e-8 in the second step
    rounding grows up to 50 times a step, which depends on the processor.
    """
    rates = {"lr": 2e-3, "kan_lr": 2e-3, "grid_updates": fitted}
    sizes = {"batch_size": 4 * parts, "accumulate": parts}
    chosen = params(epochs=1, optimizer="sgd", **rates, **sizes).model_dump()
    (tmp_path / "one").mkdir()
    runs.train_rank(0, 1, tmp_path / "one", chosen)
    run_ranks(count, runs.train_rank, str(tmp_path), chosen)
    expected, weights = _outcome(tmp_path / "one")
    found, shared = _outcome(tmp_path)
    for one, many in zip(expected, found, strict=True):
        # A count: an input at the grid's edge counts or not by rounding (1 of 34560).
        outside = one.pop("kan_outside"), many.pop("kan_outside")
        assert outside[1] == pytest.approx(outside[0], abs=1e-4)
        assert many == pytest.approx(one, rel=3e-4)
    one, many = (
        json.loads((folder / "losses.json").read_text())
        for folder in (tmp_path / "one", tmp_path)
    )
    assert many[:2] == pytest.approx(one[:2], rel=1e-6)
    assert many == pytest.approx(one, rel=3e-4)
    for name, value in weights.items():
        # A fit multiplies the rounding of coefficients that few inputs reach.
        most = 10 if fitted and name.endswith("spline_weight") else 1
        near = {"rtol": most * 1e-3, "atol": most * 5e-4}
        torch.testing.assert_close(shared[name], value, **near)


def _resume(rank, count, folder, params):
    with pytest.raises(TrainingError, match=r"rank 0 .* 2, step 8, rank 1 .* 1, "):
        runs.train_rank(rank, count, Path(folder, str(rank)), params)


def test_ranks_that_read_different_checkpoints_do_not_go_on(params, tmp_path):
    runs.train_alone(tmp_path / "0", params().model_dump())
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    (tmp_path / "1" / "latest" / "state.json").unlink()
    run_ranks(2, _resume, str(tmp_path), params(epochs=3).model_dump())
