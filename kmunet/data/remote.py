"""Data from anywhere fsspec reaches: a file or a folder, brought here once.

A finished download is recorded in .NAME.download.json beside it (url, bytes, sha256,
etag) and kept while the remote's version is the same, or cannot be asked.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmunet.data.address import Address, is_url, parse
from kmunet.data.byte_progress import byte_progress, tell
from kmunet.data.checksums import digests, expected
from kmunet.data.connect import Found, Remote
from kmunet.data.download import Done, download, read_json
from kmunet.data.locked import locked
from kmunet.data.network import FIRST_PATIENCE
from kmunet.data.remote_folder import download_folder, download_lost, listing
from kmunet.errors import DataError, RemoteError, UnreachableError

__all__ = ["Fetched", "default_cache", "fetch", "is_url", "localize"]


@dataclass(frozen=True)
class Fetched:
    """What lies at `path` now: its record (url, bytes, sha256, etag, check)."""

    path: Path
    record: dict[str, Any]


def default_cache() -> Path:
    """Where a user's downloads are kept: ~/.cache/kmunet, or below XDG_CACHE_HOME.

    Raises DataError for a user without a home, as in a container.
    """
    try:
        own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise DataError(
            "no folder for downloads: this user has no home; set HOME or XDG_CACHE_HOME"
        ) from None
    return Path(own) / "kmunet"


def localize(place: str, cache: Path | None, say: Callable[[str], None] = tell) -> Path:
    """A local path for `place`: itself, or what a URL names, below `cache`.

    Without a cache, below `default_cache`. Raises RemoteError, and DataError where
    there is no space. Two URLs of one name do not meet: each has a folder of its own.
    `say` is told what a user should know.
    """
    if not is_url(place):
        return Path(place)
    address, cache = parse(place), cache or default_cache()
    key = hashlib.sha256(f"{_endpoint(address)} {address.url}".encode()).hexdigest()
    return fetch(place, cache / key[:16] / address.name, say).path


def fetch(place: str, target: Path, say: Callable[[str], None] = tell) -> Fetched:
    """Bring what a URL names to `target`, a file or a folder, and check it.

    One process at a time does so for a target, others wait. Raises as `localize` does.
    """
    address = parse(place)
    lock = target.with_name(f".{target.name}.lock")
    with locked(lock, lambda: say(f"{address.shown}: another process downloads it")):
        return _fetch(address, target, say)


def _fetch(address: Address, target: Path, say: Callable[[str], None]) -> Fetched:
    record = _read_record(target, address)
    whole = bool(record) and not _lost(target, record or {})
    try:
        remote = Remote(address, say, patience=() if whole else FIRST_PATIENCE)
        found = remote.info(address)
    except UnreachableError as error:
        if not record or not whole:
            raise
        say(f"{error}\nusing the copy that was downloaded before: {target}")
        return Fetched(target, _checked(address, target, record))
    if address.is_folder or found.folder:
        made = _folder(remote, target, record)
    else:
        made = _file(remote, found, target, record)
    return Fetched(target, made)


def _file(
    remote: Remote, found: Found, target: Path, record: dict[str, Any] | None
) -> dict[str, Any]:
    address, say = remote.address, remote.say
    if record and found.tag and _version(record) == (found.size, found.tag):
        return _checked(address, target, record)
    _refuse_foreign(target, record, address)
    if record:
        say(f"{address.shown}: changed since it was downloaded: again")
    with byte_progress(address.name, found.size, 0, say) as advance:
        done = download(
            remote, address, found, target, lambda f: expected(remote, address, f),
            advance,
        )  # fmt: skip
    say(f"{target}: {done.bytes} bytes, checked by {done.check}")
    return _write_record(target, _as_record(address, done))


def _folder(
    remote: Remote, target: Path, record: dict[str, Any] | None
) -> dict[str, Any]:
    address, say = remote.address, remote.say
    if address.checksum:
        raise RemoteError(f"{address.shown}: a folder has no checksum: take off the #")
    files = listing(remote)
    versions = {name: [found.size, found.tag] for name, (_, found) in files.items()}
    known = all(found.tag for _, found in files.values())
    if record and known and record.get("files") == versions:
        if lost := _lost(target, record):
            say(
                f"{target}: {len(lost)} of {len(files)} files are missing or have "
                f"another size ({lost[0]}, ...): these again"
            )
            download_lost(remote, files, lost, target)
        return record
    _refuse_foreign(target, record, address)
    done = download_folder(remote, files, target)
    lines = [f"{one.sha256}  {name}\n" for name, one in sorted(done.items())]
    checks = sorted({one.check for one in done.values()})
    size = sum(one.bytes for one in done.values())
    say(f"{target}: {len(done)} files, {size} bytes, checked by {', '.join(checks)}")
    made = {
        "url": address.shown,
        "bytes": size,
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "check": ", ".join(checks),
        "files": versions,
    }
    return _write_record(target, made)


def _as_record(address: Address, done: Done) -> dict[str, Any]:
    return {"url": address.shown, "bytes": done.bytes, "sha256": done.sha256,
            "etag": done.tag, "check": done.check}  # fmt: skip


def _version(record: dict[str, Any]) -> tuple[int | None, str]:
    return record.get("bytes"), str(record.get("etag"))


def _checked(address: Address, target: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a finished file, if it has the checksum that the URL asks for."""
    if address.checksum:
        algorithm, digest = address.checksum
        got = digests(target, algorithm)[algorithm]
        if got != digest:
            raise RemoteError(
                f"{address.shown}: wrong {algorithm}: expected {digest} (from the "
                f"URL), got {got} in {target}; correct the URL, or delete the file "
                "to get it again"
            )
    return record


def _record_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.download.json")


def _read_record(target: Path, address: Address) -> dict[str, Any] | None:
    """The record of a finished download of this URL that is still there."""
    record = read_json(_record_of(target))
    if not isinstance(record, dict) or record.get("url") != address.shown:
        return None
    if "files" in record:
        return record if target.is_dir() else None
    whole = target.is_file() and target.stat().st_size == record.get("bytes")
    return record if whole else None


def _lost(target: Path, record: dict[str, Any]) -> list[str]:
    """Files of a downloaded folder that are not there as they came."""

    def is_there(file: Path, size: int | None) -> bool:
        return file.is_file() and size in (None, file.stat().st_size)

    files = record.get("files", {})
    return [n for n, (size, _) in files.items() if not is_there(target / n, size)]


def _write_record(target: Path, record: dict[str, Any]) -> dict[str, Any]:
    file = _record_of(target)
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    new.replace(file)
    return record


def _refuse_foreign(
    target: Path, record: dict[str, Any] | None, address: Address
) -> None:
    """Never write over what someone else put there."""
    left = read_json(_record_of(target))
    ours = isinstance(left, dict) and left.get("url") == address.shown
    if target.exists() and not record and not ours:
        raise RemoteError(
            f"{target}: is there already and was not downloaded from {address.shown}; "
            "move it away, or choose another folder"
        )


def _endpoint(address: Address) -> str:
    """Where buckets of that name are: another server has others."""
    if address.protocol not in ("s3", "s3a"):
        return ""
    from fsspec.config import conf

    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE")
    set_there = conf.get("s3", {})
    given = [set_there.get("endpoint_url"), set_there.get("profile")]
    given += [os.environ.get(name) for name in names]
    return next((str(value) for value in given if value), "")
