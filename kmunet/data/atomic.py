"""A folder that appears whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmunet.errors import DataError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that replaces it on leaving without error.

    On any exception, also KeyboardInterrupt, it is removed and `target` is untouched.
    """
    partial = target.with_name(f".{target.name}.partial")
    old = target.with_name(f".{target.name}.old")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_space(folder: Path, needed: int, remedy: str) -> None:
    """Raise DataError unless `needed` bytes are free where `folder` will lie."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{folder}: needs {needed / 1e6:.0f} MB but {free / 1e6:.0f} MB are free "
            f"on its disk; {remedy}"
        )
