"""An .npy file of uint8 written row by row, in any order, from several threads."""

import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """A plain file, not a memory map: a full disk is then an error, not a SIGBUS."""

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

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
