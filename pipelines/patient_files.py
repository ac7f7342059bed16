"""S3 as a file system of pyarrow's that waits for a server which is away for a while.

Ray writes checkpoints and its own notes through it. A file is sent whole from a local
copy and taken whole into one, so that each try is a new one; a short outage delays a
training and loses nothing.
"""

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import NativeFile, OSFile, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FSSpecHandler

from kmunet.data.network import explain, is_transient

logger = logging.getLogger("kmunet.training")

Result = TypeVar("Result")
LONGEST = 15.0  # seconds between two tries


def patience() -> float:
    """Seconds for which an outage of the store is waited for."""
    return float(os.environ.get("KMUNET_STORAGE_PATIENCE", "900"))


def patiently(call: Callable[[], Result], shown: str) -> Result:
    """`call()`, again while the failure is one that passes, up to `patience()`.

    Pauses grow from 1 to 15 s, by chance a fifth shorter or longer: many nodes that
    wait for one server do not come back at one time. Raises RemoteError in the end.
    """
    start, pause = time.monotonic(), 1.0
    while True:
        try:
            return call()
        except FileNotFoundError:
            raise
        except Exception as error:
            waited = time.monotonic() - start
            if not is_transient(error) or waited >= patience():
                raise explain(error, shown) from error
            logger.warning("%s; waiting (%.0f s so far)", explain(error, shown), waited)
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST)


class PatientFiles(FSSpecHandler):  # type: ignore[misc]
    """`connect()` makes the fsspec file system, anew in each process it travels to."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        super().__init__(connect())
        self._connect = connect

    def __reduce__(self) -> tuple[Any, ...]:
        return PatientFiles, (self._connect,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatientFiles) and self._connect == other._connect

    def __hash__(self) -> int:
        return hash(self._connect)

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return self._ask(super().get_file_info, paths)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        return self._ask(super().get_file_info_selector, selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: S3 has none, and s3fs would ask for the bucket."""

    def delete_dir(self, path: str) -> None:
        def remove(path: str) -> None:
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

        self._ask(remove, path)

    def copy_file(self, src: str, dest: str) -> None:
        self._ask(super().copy_file, src, dest)

    def upload(self, source: Path, path: str) -> None:
        """Send a local file, whole."""
        self._ask(partial(self.fs.put_file, str(source)), path)

    def check(self, path: str) -> None:
        """Whether a file can be written here. Raises RemoteError."""

        def write(path: str) -> None:
            self.fs.pipe_file(path, b"")
            self.fs.rm_file(path)

        self._ask(write, path)

    def open_input_stream(self, path: str) -> NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> NativeFile:
        with tempfile.NamedTemporaryFile(prefix="kmunet-s3-") as local:
            self._ask(partial(self.fs.get_file, lpath=local.name), path)
            return OSFile(local.name)

    def open_output_stream(self, path: str, metadata: Any) -> PythonFile:
        return PythonFile(_Outgoing(partial(self.upload, path=path)), mode="w")

    def _ask(self, call: Callable[..., Result], *arguments: Any) -> Result:
        named = next((a for a in arguments if isinstance(a, str)), "")
        return patiently(partial(call, *arguments), f"s3://{named}")


class _Outgoing:
    """A file to be written, which is sent when it is closed."""

    def __init__(self, send: Callable[[Path], None]) -> None:
        self._local = tempfile.NamedTemporaryFile(prefix="kmunet-s3-")  # noqa: SIM115
        self._send, self.closed = send, False

    def write(self, data: Any) -> int:
        return self._local.write(data)

    def flush(self) -> None:
        self._local.flush()

    def tell(self) -> int:
        return self._local.tell()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with self._local:
            self._local.flush()
            self._send(Path(self._local.name))
