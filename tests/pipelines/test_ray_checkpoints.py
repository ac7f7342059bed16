"""Which checkpoints of a run stay, also after some are damaged or stored in part."""

import json
from itertools import count
from pathlib import Path

import pyarrow.fs
import pytest
import ray.train

from pipelines import ray_checkpoints

NAMES = count()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder, and a function that stores a checkpoint there."""
    home = tmp_path / "run"
    home.mkdir()
    system = pyarrow.fs.LocalFileSystem()
    monkeypatch.setattr(ray_checkpoints, "place", lambda: (system, str(home)))

    def save(step, epoch, batch, best):
        source = tmp_path / f"source-{next(NAMES)}"
        source.mkdir()
        state = {"step": step, "epoch": epoch, "batch": batch, "best_epoch": best}
        (source / "state.json").write_text(json.dumps(state))
        checkpoint = ray.train.Checkpoint(str(source))
        name = f"checkpoint_2026-12-01_{next(NAMES):04d}"
        return Path(ray_checkpoints.keep(checkpoint, name).path)

    return home, save


def steps(home):
    """Of what a training would go on from, in that order."""
    found = ray_checkpoints.stored(pyarrow.fs.LocalFileSystem(), str(home))
    return [json.loads(Path(p, "state.json").read_text())["step"] for p in found]


def test_the_newest_two_and_the_best_are_kept(run):
    home, save = run
    for epoch in (1, 2, 3, 4):
        save(100 * epoch, epoch, 0, min(epoch, 2))
    assert steps(home) == [400, 300, 200]


def test_after_those_that_are_damaged_the_new_one_stays(run):
    home, save = run
    for epoch in (1, 2, 3):
        save(100 * epoch, epoch, 0, 1)
    # 200 and 300 cannot be read: on from the best, and stopped at 150.
    assert save(150, 1, 50, 1).is_dir()
    assert steps(home) == [150, 100]
    assert save(200, 2, 0, 1).is_dir()
    assert steps(home) == [200, 150, 100]


def test_what_was_stored_in_part_takes_the_place_of_nothing(run):
    home, save = run
    save(100, 1, 0, 0)
    save(200, 2, 0, 0)
    for name in ("a1", "a2"):
        partial = home / f"checkpoint_000000300_{name}"
        partial.mkdir()
        (partial / "weights.safetensors").write_bytes(b"some")
    assert save(250, 2, 50, 0).is_dir()
    assert steps(home) == [250, 200]
    earlier = home / "checkpoint_000000240_a3"
    earlier.mkdir()
    save(300, 3, 0, 0)
    assert steps(home) == [300, 250]
    assert not earlier.exists()
