"""A lock file that processes of one machine hold in turn; a killed one lets go."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(lock: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the file `lock`, made here and removed after; `wait` is called once if held.

    The kernel frees the lock of a process that dies, so nothing is ever stale.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    waiting = False
    while (held := _take(lock)) is None:
        if not waiting:
            wait()
        waiting = True
        time.sleep(0.2)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)


def _take(lock: Path) -> int | None:
    """The descriptor of the locked file, or None while another process has it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before removed it: what we locked may no longer be there.
        if os.fstat(descriptor).st_ino == os.stat(lock).st_ino:  # noqa: PTH116
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
