"""One file into NAME.part, resumed after a cut, checked, then renamed to NAME.

NAME.part.json beside it says which version the bytes are of. Bytes of another version,
or of a server that cannot send the rest alone, are thrown away, and that is said.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kmunet.data.address import Address
from kmunet.data.archive import MAX_TOTAL_BYTES
from kmunet.data.atomic import require_space
from kmunet.data.byte_progress import Advance
from kmunet.data.checksums import NOTHING, SIZE_ALONE, Expected, verify
from kmunet.data.connect import CHUNK, Found, Remote, Restart
from kmunet.data.network import PATIENCE, pause
from kmunet.errors import RemoteError, UnreachableError

_ANEW = 3  # times that a file may change, or be sent from its start, under our hands


@dataclass(frozen=True)
class Done:
    """A finished file: its size in bytes, SHA-256, version and how it was checked."""

    bytes: int
    sha256: str
    tag: str
    check: str


@dataclass(frozen=True)
class Part:
    """The unfinished bytes of `target`, and the note of what they are of."""

    target: Path

    @property
    def bytes(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    def drop(self) -> None:
        self.bytes.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def begin(self, shown: str, found: Found, say: Callable[[str], None]) -> int:
        """How many bytes of this very version are there; others are dropped."""
        note = {"url": shown, "bytes": found.size, "etag": found.tag}
        there = self.bytes.stat().st_size if self.bytes.exists() else 0
        known = bool(found.tag) and read_json(self.note) == note
        if there and known and there <= (found.size or 0):
            return there
        if there:
            say(f"{shown}: the part that is here is of another version: from the start")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.drop()
        self.note.write_text(json.dumps(note), encoding="utf-8")
        self.bytes.touch()
        return 0


def download(
    remote: Remote,
    address: Address,
    found: Found,
    target: Path,
    wanted: Callable[[Found], Expected | None],
    advance: Advance,
) -> Done:
    """Bring the file to `target`; the caller holds its lock. Raises RemoteError.

    `wanted` gives the checksum of a version. Memory: one chunk of 8 MiB.
    """
    part = Part(target)
    for _ in range(_ANEW):
        start = part.begin(address.shown, found, remote.say)
        _require(address, found, target, start)
        if start:
            of = f"{start / 1e6:.1f} of {(found.size or 0) / 1e6:.1f} MB"
            remote.say(f"{address.shown}: going on from {of}")
        advance(start)
        try:
            _append(remote, address, found, part, start, advance)
        except Restart:
            remote.say(f"{address.shown}: the server cannot resume: from the start")
            advance(-part.bytes.stat().st_size)
            part.drop()
            continue
        now = _same(remote, address, found, start)
        if now == found:
            return _finish(remote, address, found, part, wanted(found))
        advance(-part.bytes.stat().st_size)
        found = now
    raise RemoteError(
        f"{address.shown}: it changed, or the connection was cut, {_ANEW} times before "
        "its end; try again later"
    )


def _require(address: Address, found: Found, target: Path, start: int) -> None:
    if (found.size or 0) > MAX_TOTAL_BYTES:
        raise RemoteError(f"{address.shown}: {found.size} bytes, above the limit")
    remedy = "free some, then run the same again: it goes on from there"
    require_space(target, (found.size or 0) - start, remedy)


def _append(
    remote: Remote,
    address: Address,
    found: Found,
    part: Part,
    start: int,
    advance: Advance,
) -> None:
    total = start
    with part.bytes.open("ab") as file:
        for chunk in _chunks(remote, address, found, start):
            total += len(chunk)
            if total > (MAX_TOTAL_BYTES if found.size is None else found.size):
                part.drop()
                raise RemoteError(f"{address.shown}: more bytes than were announced")
            file.write(chunk)
            file.flush()  # a killed process leaves all that has come
            advance(len(chunk))
        os.fsync(file.fileno())


def _chunks(
    remote: Remote, address: Address, found: Found, start: int
) -> Iterator[bytes]:
    """The bytes from `start`; after a cut it waits and goes on from there."""
    pauses = iter(PATIENCE)
    while True:
        try:
            for chunk in remote.read(address, start, found):
                start += len(chunk)
                pauses = iter(PATIENCE)
                yield chunk
            return
        except Restart:
            raise
        except Exception as error:
            if not pause(error, pauses, address.shown, remote.say):
                raise remote.explained(error, address) from None


def _same(remote: Remote, address: Address, found: Found, start: int) -> Found:
    """What is there now: of several requests, each could have met another version."""
    if not start and found.size is not None and found.size <= CHUNK:
        return found
    now = remote.info(address)
    return now if (now.size, now.tag) != (found.size, found.tag) else found


def _finish(
    remote: Remote,
    address: Address,
    found: Found,
    part: Part,
    wanted: Expected | None,
) -> Done:
    size = part.bytes.stat().st_size
    if found.size is not None and size != found.size:
        part.drop()
        raise RemoteError(
            f"{address.shown}: {size} bytes came instead of {found.size}; try again"
        )
    try:
        sha256, check = verify(part.bytes, remote, address, wanted)
    except UnreachableError:
        raise
    except RemoteError:
        part.drop()
        raise
    if found.size is None and check == SIZE_ALONE:
        check = NOTHING
    part.bytes.replace(part.target)
    part.note.unlink(missing_ok=True)
    return Done(size, sha256, found.tag, check)


def read_json(file: Path) -> object:
    """The file's JSON; None where it is missing or torn."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
