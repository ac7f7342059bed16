"""Reader processes: each opens a store, waits for the others, and reads its rows."""

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.processes import CONTEXT, start
from benchmarks.stores import Store

_LIMIT = 600.0  # seconds
_WARM = 8  # rows read before the clock starts: imports, handles, threads


def read_rows(
    store: Store, folder: Path, count: int, reads: int, processes: int, seed: int
) -> dict[str, float]:
    """Images a second of all readers together, and CPU seconds an image.

    Each reads `reads` rows drawn anew from `count`, by itself. "disk" is the share of
    the bytes on disk that had to be fetched from it.
    """
    gate = CONTEXT.Barrier(processes)
    running = []
    for part in range(processes):
        rows = np.random.default_rng([seed, part]).integers(0, count, reads).tolist()
        given = (gate, store, folder, rows, part, processes)
        running.append(start(_read, *given, preload=["benchmarks.store_readers"]))
    found = [_answer(end) for _, end in running]
    for process, _ in running:
        process.join()
    wall = max(f["end"] for f in found) - min(f["start"] for f in found)
    images = sum(f["images"] for f in found)
    return {
        "images_per_second": images / wall,
        "cpu_us_per_image": 1e6 * sum(f["cpu"] for f in found) / images,
        "fetched_bytes_per_image": sum(f["fetched"] for f in found) / images,
    }


def _answer(end: Connection) -> dict[str, float]:
    if not end.poll(_LIMIT):
        raise RuntimeError(f"a reader took more than {_LIMIT:.0f} s")
    answer: dict[str, Any] = end.recv()
    if "failed" in answer:
        raise RuntimeError(answer["failed"])
    return answer


def _read(
    connection: Connection,
    gate: Any,
    store: Store,
    folder: Path,
    rows: Sequence[int],
    part: int,
    parts: int,
) -> None:
    try:
        connection.send(_timed(gate, store, folder, rows, part, parts))
    except Exception as error:
        gate.abort()
        connection.send({"failed": f"{store.name}: {type(error).__name__}: {error}"})


def _timed(
    gate: Any, store: Store, folder: Path, rows: Sequence[int], part: int, parts: int
) -> dict[str, float]:
    cv2.setNumThreads(1)
    reading = store.stream(folder, [*rows[:_WARM], *rows], part, parts)
    for _, _ in zip(range(_WARM), reading, strict=False):
        pass
    gate.wait(_LIMIT)
    start, cpu, fetched = time.monotonic(), time.process_time(), _fetched()
    images = sum(1 for _ in reading)
    return {
        "start": start,
        "end": time.monotonic(),
        "cpu": time.process_time() - cpu,
        "fetched": _fetched() - fetched,
        "images": images,
    }


def _fetched() -> float:
    """Bytes that this process had to get from the disk; 0 where nobody counts."""
    path = Path("/proc/self/io")
    if not path.exists():
        return 0.0
    fields = dict(line.split(": ") for line in path.read_text().splitlines())
    return float(fields["read_bytes"])


def forget(folder: Path) -> None:
    """Ask the system to drop the pages of these files from its cache; needs no root."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
