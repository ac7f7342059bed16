"""A disk that fills up: told in words, and what was saved before is still whole."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("services", "faults")]

import runs
from record import record
from small_disk import small_disk

from kmunet.errors import SpaceError
from kmunet.training import LocalReporter, fit
from kmunet.training.space import (
    MARGIN,
    checkpoint_bytes,
    folder_bytes,
    remove_left_over,
)


def test_the_size_of_a_checkpoint_is_known_before(model, data, params, tmp_path):
    for number, options in enumerate(({}, {"ema_decay": 0.9}, {"optimizer": "sgd"})):
        chosen = params(epochs=1, max_steps=1, **options)
        folder = tmp_path / str(number)
        fit(model, data, chosen, LocalReporter(folder))
        written = folder_bytes(folder / "latest")
        assert checkpoint_bytes(model, chosen) == pytest.approx(written, rel=0.1)


def test_what_a_kill_left_among_temporary_files_goes_after_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, hours in (("old", 25), ("new", 1)):
        folder = tmp_path / f"kmunet-checkpoint-{name}"
        folder.mkdir()
        (folder / "state.json").touch()
        then = time.time() - 3600 * hours
        os.utime(folder, (then, then))
    remove_left_over()
    assert [path.name for path in tmp_path.iterdir()] == ["kmunet-checkpoint-new"]


FULL = "the disk of the checkpoints is full"


@pytest.mark.parametrize(
    ("ballast", "when"), [(0, ", seen before"), (300_000, ", in mid-copy")]
)
def test_a_disk_that_fills_up_leaves_the_checkpoint_before(
    model, data, params, tmp_path, ballast, when
):
    """Where it is seen before and, as others fill the margin, while copying."""
    chosen = params(epochs=3)
    expected = fit(runs.small_model(), data, chosen, LocalReporter(tmp_path / "whole"))
    one = folder_bytes(tmp_path / "whole" / "latest")
    size = int(2.5 * one) + (MARGIN if not ballast else 0)
    with small_disk(tmp_path / "disk", size) as disk:
        (disk / "others").write_bytes(b"x" * ballast)
        with pytest.raises(SpaceError) as told:
            fit(
                model, data, chosen, _Careless(disk) if ballast else LocalReporter(disk)
            )
        said = str(told.value)
        assert said.startswith(f"{disk}: no space for a checkpoint: ")
        assert "bytes are needed" in said
        kept = {path.name for path in disk.iterdir() if path.is_dir()}
        assert kept == {"latest", "previous"}
        shutil.copytree(disk / "latest", tmp_path / "saved" / "latest")
    start = time.monotonic()
    found = fit(runs.small_model(), data, chosen, LocalReporter(tmp_path / "saved"))
    assert found == expected
    what = "error naming the folder and the bytes needed; with room the run goes on"
    kept = "all up to the last checkpoint, whole; the same result as undisturbed"
    record(f"{FULL}{when}", what, kept, time.monotonic() - start)


class _Careless(LocalReporter):
    """Sees no full disk coming."""

    def report(self, metrics, checkpoint):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kmunet.training.space.free", lambda place: 2**40)
            super().report(metrics, checkpoint)


def test_a_full_folder_for_temporary_files_is_named(
    model, data, params, tmp_path, monkeypatch
):
    with small_disk(tmp_path / "tmp", 200_000) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(SpaceError, match=f"^{disk}: no space for a checkpoint"):
            fit(model, data, params(), LocalReporter(tmp_path / "run"))
