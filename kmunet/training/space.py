"""Disks that are full: told by name and number, with what was saved before unharmed."""

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from kmunet.errors import SpaceError

if TYPE_CHECKING:
    from kmunet.config import TrainParams

TEMPORARY = "kmunet-checkpoint-"  # what is being saved, among temporary files
A_DAY = 86400.0  # seconds: no checkpoint takes as long to save
MARGIN = 2**20  # bytes that are left for what others write beside a checkpoint
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left on device", "os error 28", "disk quota exceeded")


def is_full(error: BaseException) -> bool:
    """Whether a disk is full: libraries tell it by number, or in words alone."""
    text = str(error).lower()
    return getattr(error, "errno", None) in _FULL or any(w in text for w in _WORDS)


@contextmanager
def told_if_full(
    place: Path, needed: int, what: str = "a checkpoint"
) -> Iterator[None]:
    """SpaceError in place of whatever a library raises where the disk is full."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise no_space(place, needed, what) from None


def no_space(place: Path, needed: int, what: str = "a checkpoint") -> SpaceError:
    """What the user is told: the folder, and the bytes that are needed there."""
    return SpaceError(
        f"{place}: no space for {what}: {needed:,} bytes are needed and "
        f"{free(place):,} free; free some, then run the same command again: it "
        "goes on from what was saved before"
    )


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all. Raises SpaceError."""
    needed, partial = folder_bytes(source), target.with_name(f".{target.name}.partial")
    if free(target) < needed + MARGIN:
        raise no_space(target.parent, needed)
    try:
        with told_if_full(target.parent, needed):
            shutil.copytree(source, partial, dirs_exist_ok=True)
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_left_over() -> None:
    """What trainings that were killed while they saved have left of it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > A_DAY:
                shutil.rmtree(folder)


def free(place: Path) -> int:
    """Bytes that may be written at `place`, which need not be there yet."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def folder_bytes(folder: Path) -> int:
    """Of all files below, one of several names once; 0 where there is no folder."""
    found = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in found}.values())


def checkpoint_bytes(model: nn.Module, params: "TrainParams") -> int:
    """About what one checkpoint takes: weights, best, average, moments."""
    state = sum(t.nbytes for t in model.state_dict().values())
    moments = 2 if params.optimizer.startswith("adam") else 1
    learnt = sum(p.nbytes for p in model.parameters())
    weights = 3 if params.ema_decay else 2
    return int(weights * state + moments * learnt)
