"""Work through items in threads, in order, with a bar or a line now and then."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
SECONDS_BETWEEN_LINES = 10.0


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], label: str
) -> Iterator[Result]:
    """`function` of each item, in their order; decoding releases Python's lock.

    What is not yet begun is dropped when the caller stops or is interrupted.
    """
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        futures = [pool.submit(function, item) for item in items]
        results = (future.result() for future in futures)
        yield from show_progress(results, len(items), label)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def show_progress(items: Iterator[Item], total: int, label: str) -> Iterator[Item]:
    """Pass items on; show how far it is on stderr."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        yield from track(items, label, total, console=console, transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)
        yield item
