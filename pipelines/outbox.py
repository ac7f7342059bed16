"""Records on their way to a server that may be slow, down or away for good.

`put` never waits. A thread writes each record to a file, then sends what the file
holds: what a server or a killed process left undelivered is sent later, by this process
or by `deliver_left`.
"""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.address import shown
from pipelines.spool import Record, Sink, Spool

WAITING = 10_000  # records in memory
AT_ONCE = 1_000  # of them into the file, before the next try to send
PAUSES = (2.0, 5.0, 10.0, 30.0)  # seconds after a failure, before the next try


class Outbox:
    """Takes records in, from any thread, until it is closed."""

    def __init__(
        self, file: Path, header: Record, sink: Sink, say: Callable[[str], None]
    ) -> None:
        self.lost = 0
        self._say: Callable[[str], None] | None = say
        self._sink, self._spool = sink, Spool(file, header)
        self._queue: queue.Queue[Record | None] = queue.Queue(WAITING)  # None: the end
        self._failures, self._next = 0, 0.0
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Never waits: a record for which there is no room is left out and counted."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.lost += 1

    def close(self, patience: float) -> bool:
        """One more try, for at most `patience` seconds; whether all has arrived.

        What has not stays in the file.
        """
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return False
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._spool.waiting

    def _work(self) -> None:
        over = False
        while not over:
            records, over = self._take()
            try:
                self._spool.add(records)
            except OSError as error:  # a full disk: training will say so too
                self.lost += len(records)
                self._warn(error)
            if self._spool.waiting and (over or time.monotonic() >= self._next):
                self._deliver()
        self._spool.finish()

    def _take(self) -> tuple[list[Record], bool]:
        """All that waits, after a second nothing; and whether that is the end."""
        found: list[Record] = []
        try:
            item = self._queue.get(timeout=1.0)
            while item is not None:
                found.append(item)
                if len(found) == AT_ONCE:
                    return found, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return found, False
        return found, True

    def _deliver(self) -> None:
        try:
            self._spool.deliver(self._sink)
        except Exception as error:  # whatever a server does is no matter of training
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures, self._next = self._failures + 1, time.monotonic() + pause
            self._warn(error)
        else:
            self._failures = 0

    def _warn(self, error: BaseException) -> None:
        """Once."""
        if self._say is not None:
            said = reason(error)
            self._say(f"{said}; what cannot be sent is kept in {self._spool.file}")
        self._say = None


def reason(error: BaseException) -> str:
    """In a line, without a password."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return shown(said)[:300]
