"""A file of records that wait to be sent: a header line, then a line of JSON each.

Locked while a process is at it, and there until that has told all: a file without one
is known to be left over, though nothing in it may wait.
"""

import errno
import fcntl
import json
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

Record = dict[str, Any]

LARGEST = 64 * 2**20  # bytes; beyond, only what is marked "keep" goes in
_AT_ONCE = 500  # records


class Sink(Protocol):
    """Where records go. Methods raise where they do not arrive."""

    def open(self, header: Record) -> Record:
        """The header, with the place that its records have; cheap when repeated."""

    def send(self, header: Record, records: Sequence[Record]) -> None:
        """Deliver records, in order. After a failure, some may come again."""


class Heir(Sink, Protocol):
    """A sink of what others told."""

    def leave(self, header: Record, moment: float) -> None:
        """Who told these is gone; the last word came at `moment`, Unix time."""


class Spool:
    """Of one sender. `waiting` counts the records in the file that were not sent."""

    def __init__(self, file: Path, header: Record) -> None:
        self.file, self.waiting = file, 0
        self.header, self._sent, self._begin = header, 0, 0
        self._handle: FileIO | None = None  # the file is made with the first record

    def add(self, records: Sequence[Record]) -> None:
        """Append, whole or not at all. Raises OSError."""
        if not records:
            return
        handle = self._handle or self._make()
        end = handle.seek(0, 2)
        kept = [r for r in records if end < LARGEST or r.get("keep")]
        try:
            _write(handle, kept)
        except OSError:
            handle.truncate(end)
            raise
        self.waiting += len(kept)

    def deliver(self, sink: Sink) -> None:
        """Send all; the header stays, for those who look for what was left."""
        assert self._handle is not None
        self._handle.seek(0)
        _, *records = _read(self._handle)
        self.header = sink.open(self.header)
        for part in _parts(records[self._sent :]):
            sink.send(self.header, part)
            self._sent += len(part)
        self._handle.truncate(self._begin)
        self.waiting = self._sent = 0

    def finish(self) -> None:
        """All is told: remove the file, unless something in it waits."""
        if not self.waiting:
            self.file.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        self._handle = None

    def _make(self) -> FileIO:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle = FileIO(self.file, "w+")
        fcntl.flock(handle, fcntl.LOCK_EX)
        _write(handle, [self.header])
        self._handle, self._begin = handle, handle.tell()
        return handle

    @classmethod
    def left(cls, file: Path) -> "Spool | None":
        """One that another process has left; None where it is at it, or is empty."""
        try:
            handle = FileIO(file, "r+")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lines = _read(handle)
        except BlockingIOError:
            lines = []
        except ValueError:  # no JSON
            handle.close()
            raise
        if not lines:
            handle.close()
            return None
        spool = cls(file, lines[0])
        handle.seek(0)
        spool._handle, spool._begin = handle, len(handle.readline())
        spool.waiting = len(lines) - 1
        return spool


def deliver_left(folder: Path, sink: Heir) -> int:
    """Send what earlier processes left in `folder`; the number of files sent.

    One file that cannot be sent keeps no other back, but after two nobody answers.
    Raises what the sink raised last.
    """
    sent, faults = 0, list[Exception]()
    for file in sorted(folder.glob("*.jsonl")):
        try:
            sent += _deliver_file(file, sink)
        except Exception as error:
            faults.append(error)
        if len(faults) == 2:
            break
    if faults:
        raise faults[-1]
    return sent


def _deliver_file(file: Path, sink: Heir) -> bool:
    """Whether there was something to send."""
    spool = Spool.left(file)
    if spool is None:
        return False
    try:
        moment = file.stat().st_mtime
        if spool.waiting:
            spool.deliver(sink)
        sink.leave(spool.header, moment)
        spool.finish()
    finally:
        spool.close()
    return True


def _parts(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Some at once, but what is large alone: it is not to be sent twice."""
    few: list[Record] = []
    for record in records:
        large = "png" in record
        if few and (large or len(few) == _AT_ONCE):
            yield few
            few = []
        if large:
            yield [record]
        else:
            few.append(record)
    if few:
        yield few


def _write(handle: FileIO, records: Sequence[Record]) -> None:
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    if handle.write(data) < len(data):
        raise OSError(errno.ENOSPC, "no space left", str(handle.name))


def _read(handle: FileIO) -> list[Record]:
    """The whole lines; one that a kill cut short is not."""
    found = []
    for line in handle.read().splitlines(keepends=True):
        if line.endswith(b"\n"):
            found.append(json.loads(line))
    return found
