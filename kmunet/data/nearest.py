"""The nearest rows of each row of a table that need not fit memory: a blocked product.

Blocks are multiplied once for both of their sides; what is kept is the best few of
each row so far, 128 bytes for 16 of them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.progress import show_progress

BLOCK = 1024  # rows
Field = NDArray[np.float32]


def chunks(count: int) -> list[slice]:
    """Rows 0 to `count` in blocks."""
    return [slice(n, min(count, n + BLOCK)) for n in range(0, count, BLOCK)]


def nearest_rows(flat: Any, most: int) -> NDArray[np.int32]:
    """Rows (N, most) of the largest products with each of `flat` (N, D), block-wise."""
    count = len(flat)
    best = np.full((count, most), -np.inf, np.float32)
    where = np.zeros((count, most), np.int32)

    def compare(number: int) -> Iterator[tuple[slice, Field, slice]]:
        own = flat[parts[number]]
        for other in parts[number:]:
            close = own @ flat[other].T
            if other is parts[number]:
                np.fill_diagonal(close, -np.inf)
                yield other, close, other
            else:
                yield parts[number], close, other
                yield other, np.ascontiguousarray(close.T), parts[number]

    parts = chunks(count)
    for number in show_progress(iter(range(len(parts))), len(parts), "neighbours"):
        for rows, close, columns in compare(number):
            _keep_best(best[rows], where[rows], close, columns.start)
    return where


def _keep_best(best: Field, where: NDArray[np.int32], close: Field, first: int) -> None:
    """Take what is above the least of a row of `best` (n, k); columns from `first`."""
    most = best.shape[1]
    rows, columns = np.nonzero(close > best.min(axis=1)[:, None])
    if not rows.size:
        return
    counts = np.bincount(rows, minlength=len(best))
    place = most + np.arange(rows.size) - np.repeat(counts.cumsum() - counts, counts)
    values = np.full((len(best), most + counts.max()), -np.inf, np.float32)
    names = np.zeros(values.shape, np.int32)
    values[:, :most], names[:, :most] = best, where
    values[rows, place] = close[rows, columns]
    names[rows, place] = first + columns
    top = np.argpartition(-values, most - 1, axis=1)[:, :most]
    best[:] = np.take_along_axis(values, top, axis=1)
    where[:] = np.take_along_axis(names, top, axis=1)
