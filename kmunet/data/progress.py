"""Work through items in threads, in order, with a bar or a line now and then."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
SECONDS_BETWEEN_LINES = 10.0
_AHEAD = 4  # items begun or done for each thread, and not yet taken


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], label: str
) -> Iterator[Result]:
    """`function` of each item, in their order; decoding releases Python's lock.

    Only a few results wait to be taken, however many items there are. What is not yet
    begun is dropped when the caller stops or is interrupted.
    """
    threads = min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    try:
        results = _in_order(pool, function, items, threads * _AHEAD)
        yield from show_progress(results, len(items), label)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    ahead: int,
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
