"""One array of uint8 cut into .npy files of a bounded size, row by row.

Written in any order from several threads; read by memory map, so that all processes
of a machine share one copy.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.rows import RowFile

Pixels = NDArray[np.uint8]


def shard_names(folder: str, kind: str, count: int, rows: int) -> list[str]:
    """`256/images-00000.npy`, ...: of `count` rows, `rows` in each but the last."""
    return [f"{folder}/{kind}-{n:05d}.npy" for n in range(-(-count // rows))]


class ShardWriter:
    """Writes (count, *shape); a file is closed as soon as all its rows are there."""

    def __init__(
        self, root: Path, names: Sequence[str], shape: tuple[int, ...], rows: int
    ) -> None:
        """`shape`: of the whole array, rows first."""
        self._root, self._names, self._shape, self._rows = root, names, shape, rows
        self._lock = threading.Lock()
        self._open: dict[int, RowFile] = {}
        self._left = [min(rows, shape[0] - n * rows) for n in range(len(names))]

    def write(self, row: int, values: Pixels) -> None:
        """One row, once."""
        number, place = divmod(row, self._rows)
        with self._lock:
            file = self._open.get(number) or self._begin(number)
        file.write(place, values)
        with self._lock:
            self._left[number] -= 1
            if not self._left[number]:
                self._open.pop(number).close()

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, number: int) -> RowFile:
        path = self._root / self._names[number]
        path.parent.mkdir(exist_ok=True)
        count = min(self._rows, self._shape[0] - number * self._rows)
        self._open[number] = RowFile(path, (count, *self._shape[1:]))
        return self._open[number]


class Shards:
    """Memory-mapped files as one read-only array, indexed along its first axis.

    A row, or a slice within one file, is a view and no copy; other slices and lists of
    rows are copied, those rows alone.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[Pixels]) -> None:
        # Plain views: each index into an np.memmap costs as much as reading an image.
        self.parts = tuple(np.asarray(part) for part in parts)
        self._ends = list(accumulate(len(part) for part in parts))
        self.shape: tuple[int, ...] = (self._ends[-1], *parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> Pixels:
        if isinstance(rows, int | np.integer):
            return self._row(int(rows))
        if isinstance(rows, slice):
            return self._slice(rows)
        wanted = np.asarray(rows)
        if wanted.dtype == np.bool_:
            wanted = np.flatnonzero(wanted)
        found = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for place, row in enumerate(wanted.tolist()):
            found[place] = self._row(row)
        return found

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("shards make an array only by copying")
        return np.asarray(self[:], dtype)

    def _row(self, row: int) -> Pixels:
        row = row + len(self) if row < 0 else row
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect_right(self._ends, row)
        part = self.parts[number]
        found: Pixels = part[row - self._ends[number] + len(part)]
        return found

    def _slice(self, rows: slice) -> Pixels:
        start, stop, step = rows.indices(len(self))
        number = bisect_right(self._ends, start)
        if step == 1 and start < stop <= self._ends[number]:
            part = self.parts[number]
            before = self._ends[number] - len(part)
            return part[start - before : stop - before]
        return self[np.arange(start, stop, step)]
