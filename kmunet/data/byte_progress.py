"""How far a download is: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kmunet.data.progress import SECONDS_BETWEEN_LINES

Advance = Callable[[int], None]


def tell(text: str) -> None:
    """The default way to say something: a line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def byte_progress(
    label: str, total: int | None, done: int, say: Callable[[str], None]
) -> Iterator[Advance]:
    """Yield a function that takes the number of bytes that have come since.

    `total` and `done`: bytes, of the whole and there already; None is not known.
    """
    if say is tell and sys.stderr.isatty():
        with _bar(label, total, done) as advance:
            yield advance
    else:
        yield _lines(label, total, done, say)


@contextmanager
def _bar(label: str, total: int | None, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
               TransferSpeedColumn(), TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done)
        yield lambda count: progress.advance(task, count)


def _lines(
    label: str, total: int | None, done: int, say: Callable[[str], None]
) -> Advance:
    last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal last, done
        done += count
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            say(f"{label}: {done / 1e6:.0f}{of} MB")

    return advance
