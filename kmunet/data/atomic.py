"""A folder that appears whole or not at all."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmunet.data.locked import locked
from kmunet.errors import DataError

logger = logging.getLogger("kmunet.data")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that replaces it on leaving without error.

    On any exception, also KeyboardInterrupt, it is removed and `target` is untouched.
    Processes that write the same one do so in turn; the last one's stays. Where
    `target` is a link, as to a larger disk, what it leads to is replaced.
    """
    target = target.resolve() if target.is_symlink() else target

    def wait() -> None:
        logger.warning("%s: waits for another process that writes it", target)

    with locked(target.with_name(f".{target.name}.lock"), wait), _fresh(target) as new:
        yield new


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    partial = target.with_name(f".{target.name}.partial")
    old = target.with_name(f".{target.name}.old")
    _clean(target, old, partial)  # what a killed process left
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        _clean(target, old, partial)


def _clean(target: Path, old: Path, partial: Path) -> None:
    """Put the folder that was there back if none has taken its place; drop the rest."""
    if old.exists() and not target.exists():
        old.rename(target)
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)


def require_space(folder: Path, needed: int, remedy: str) -> None:
    """Raise DataError unless `needed` bytes are free where `folder` will lie."""
    place = folder.resolve()  # of a link, where it leads
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{folder}: needs {needed / 1e6:.0f} MB but {free / 1e6:.0f} MB are free "
            f"on its disk; {remedy}"
        )
