"""Arrays on disk, row by row: .npy files as they are written, scratch rows for sums.

Plain files, not memory maps: a full disk is then an error and not a SIGBUS, and what
was read does not count as this process's memory.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """An .npy file of uint8, written in any order and from several threads."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._lock = threading.Lock()
        self._file: BinaryIO = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()

    def write(self, row: int, values: NDArray[np.uint8]) -> None:
        """One row of the declared shape; rows not written stay 0."""
        if values.shape != self._shape[1:] or values.dtype != np.uint8:
            raise ValueError(f"row {row}: {values.dtype} {values.shape}")
        with self._lock:
            self._file.seek(self._start + row * values.size)
            self._file.write(values.tobytes())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ScratchRows:
    """(N, *shape) of any type in a file without a name: gone when closed or killed.

    Indexed like an array by one row, a slice or an array of rows; reads are copies.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._row = int(np.prod(shape[1:])) * self.dtype.itemsize
        path = folder / f".rows-{threading.get_ident()}-{id(self)}"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        path.unlink()
        os.truncate(self._file, shape[0] * self._row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> Any:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                found = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
                self._read(start, found)
                return found
            rows = range(start, stop, step)
        if isinstance(rows, int | np.integer):
            single = np.empty(self.shape[1:], self.dtype)
            self._read(int(rows), single)
            return single
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows):
            self._read(int(row), found[place])
        return found

    def __setitem__(self, rows: int | slice, values: NDArray[Any]) -> None:
        start = rows if isinstance(rows, int) else rows.indices(len(self))[0]
        data = np.ascontiguousarray(values, self.dtype).data.cast("B")
        place = start * self._row
        while data:  # a signal may cut a write short
            done = os.pwrite(self._file, data, place)
            data, place = data[done:], place + done

    def cut(self, count: int) -> None:
        """Keep the first `count` rows."""
        self.shape = (count, *self.shape[1:])
        os.truncate(self._file, count * self._row)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "ScratchRows":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, row: int, into: NDArray[Any]) -> None:
        if not into.size:
            return
        data = into.reshape(-1).view(np.uint8).data
        place = row * self._row
        while data:
            done = os.preadv(self._file, [data], place)
            if not done:
                raise IndexError(f"row {row} of {len(self)}")
            data, place = data[done:], place + done
