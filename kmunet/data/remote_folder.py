"""A whole folder from afar: its list checked first, then every file in threads.

Files gather in NAME.part/ and finished ones are noted in NAME.part.jsonl, so that a
killed download goes on file by file; NAME appears whole.
"""

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from threading import Lock

from kmunet.data.address import Address, unsafe
from kmunet.data.archive import MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES
from kmunet.data.atomic import require_space
from kmunet.data.byte_progress import Advance, byte_progress
from kmunet.data.checksums import Expected, by_etag, listed
from kmunet.data.connect import THREADS, Found, Remote
from kmunet.data.download import Done, download
from kmunet.errors import RemoteError

Files = dict[str, tuple[str, Found]]  # relative name: URL, what is known
_SUMS = (("sha256", ".sha256"), ("md5", ".md5"))


def listing(remote: Remote) -> Files:
    """The files below the remote's address, checked. Raises RemoteError."""
    shown = remote.address.shown
    files = remote.names(remote.address)
    if not files:
        raise RemoteError(f"{shown}: no files there (404); check the name")
    if len(files) > MAX_FILES:
        raise RemoteError(f"{shown}: more than {MAX_FILES} files")
    if sum(found.size or 0 for _, found in files.values()) > MAX_TOTAL_BYTES:
        raise RemoteError(f"{shown}: more than {MAX_TOTAL_BYTES} bytes")
    folders = {str(up) for name in files for up in PurePosixPath(name).parents}
    for name, (_, found) in files.items():
        fault = unsafe(name)
        if not fault and name in folders:
            fault = "a file and a folder at once"
        if not fault and (found.size or 0) > _limit(name):
            fault = f"{found.size} bytes, above the limit"
        if fault:
            raise RemoteError(
                f"{shown}: refused: '{name}' is {fault}; copy what is good elsewhere"
            )
    return files


def _limit(name: str) -> int:
    return MAX_TOTAL_BYTES if name.lower().endswith(".zip") else MAX_FILE_BYTES


def download_folder(remote: Remote, files: Files, target: Path) -> dict[str, Done]:
    """Bring all files to the folder `target`, and say how each was checked."""
    place = target.with_name(f"{target.name}.part")
    journal = target.with_name(f"{target.name}.part.jsonl")
    done = {
        name: one
        for name, one in _noted(journal).items()
        if name in files and _is_there(place / name, files[name][1], one)
    }
    left = sorted(set(files) - set(done))
    size = sum(found.size or 0 for _, found in files.values())
    ready = sum(one.bytes for one in done.values())
    require_space(target, size - ready, "free some, then run the same again")
    if done:
        remote.say(
            f"{remote.address.shown}: {len(done)} of {len(files)} files are here"
        )
    place.mkdir(parents=True, exist_ok=True)
    label = f"{target.name} ({len(files)} files)"
    with byte_progress(label, size, ready, remote.say) as advance:
        done |= _all(remote, files, left, place, journal, advance)
    _drop_others(place, files)
    _replace(target, place)
    journal.unlink(missing_ok=True)
    return done


def download_lost(remote: Remote, files: Files, names: list[str], target: Path) -> None:
    """Bring these files of a folder that is here already, each checked as before."""
    journal = target.with_name(f"{target.name}.part.jsonl")
    size = sum(files[name][1].size or 0 for name in names)
    require_space(target, size, "free some, then run the same again")
    label = f"{target.name} ({len(names)} files)"
    with byte_progress(label, size, 0, remote.say) as advance:
        _all(remote, files, names, target, journal, advance)
    journal.unlink(missing_ok=True)


def _all(
    remote: Remote,
    files: Files,
    left: list[str],
    place: Path,
    journal: Path,
    advance: Advance,
) -> dict[str, Done]:
    """Download in threads; each notes what it has finished."""
    writing = Lock()

    def bring(name: str) -> Done:
        done = _one(remote, files, name, place, advance)
        with writing, journal.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"name": name, **asdict(done)}) + "\n")
        return done

    pool = ThreadPoolExecutor(THREADS)
    try:
        futures = {name: pool.submit(bring, name) for name in left}
        return {name: future.result() for name, future in futures.items()}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one(
    remote: Remote, files: Files, name: str, place: Path, advance: Advance
) -> Done:
    url, found = files[name]
    address = Address(url)

    def wanted(version: Found) -> Expected | None:
        for algorithm, suffix in _SUMS:
            if name + suffix in files:
                beside = Address(files[name + suffix][0])
                text = remote.small(beside).decode("utf-8", "replace")
                if digest := listed(text, algorithm, Path(name).name):
                    return Expected(algorithm, digest, beside.name)
        return by_etag(remote, version)

    return download(remote, address, found, place / name, wanted, advance)


def _noted(journal: Path) -> dict[str, Done]:
    noted: dict[str, Done] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                item = json.loads(line)
                name = str(item.pop("name"))
                noted[name] = Done(**item)
            except (ValueError, KeyError, TypeError):  # torn by a kill
                continue
    return noted


def _is_there(file: Path, found: Found, noted: Done) -> bool:
    same = (noted.bytes, noted.tag) == (found.size, found.tag)
    return same and file.is_file() and file.stat().st_size == noted.bytes


def _drop_others(place: Path, names: Iterable[str]) -> None:
    """What an earlier list had, or a cut has left."""
    wanted = {place / name for name in names}
    for folder, _, files in os.walk(place):
        for file in files:
            if Path(folder, file) not in wanted:
                Path(folder, file).unlink()


def _replace(target: Path, place: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    place.rename(target)
    shutil.rmtree(old, ignore_errors=True)
