"""What lies in a raw folder: path, bytes and SHA-256 of each file, one digest of all.

The record that a model version keeps of its archives, and their comparison with files
of today.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmunet.data.archive import FolderFiles
from kmunet.data.digest import sha256_of
from kmunet.data.progress import parallel_map
from kmunet.errors import SourceError

RawFile = dict[str, Any]  # {"path": str, "bytes": int, "sha256": str}


def raw_files(place: Path) -> list[RawFile]:
    """`[{path, bytes, sha256}]` of a folder, sorted by POSIX path, or of one file.

    Links are followed; hidden files and such clutter do not count. Files are streamed,
    several at once. Raises SourceError where `place` or a file cannot be read.
    """
    if not place.exists():
        raise SourceError(f"{place}: no such file or folder")
    root, names = place, [place.name]
    if place.is_dir():
        names = FolderFiles(place).names()
    else:
        root = place.parent
    return list(parallel_map(lambda name: _describe(root, name), names, "hashing"))


def digest(files: Iterable[Mapping[str, Any]]) -> str:
    """One SHA-256 over paths and contents, whatever the order of `files`."""
    rows = sorted((str(file["path"]), str(file["sha256"])) for file in files)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def raw_record(place: Path, kind: str) -> bytes:
    """raw.json: {"kind", "digest", "files"}; the same files give the same bytes."""
    files = raw_files(place)
    record = {"kind": kind, "digest": digest(files), "files": files}
    return (json.dumps(record, sort_keys=True, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Comparison:
    """Paths of the recorded files by what became of them, and what is new there."""

    same: tuple[str, ...]
    differs: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the data are what was recorded, no more and no less."""
        return not (self.differs or self.missing or self.extra)


def compare(recorded: Sequence[Mapping[str, Any]], place: Path) -> Comparison:
    """Recorded files against a folder, or against one file of the same name.

    A single file is compared with its own record alone: others are not missing. Raises
    SourceError where it is no file of the record.
    """
    known = {str(file["path"]): str(file["sha256"]) for file in recorded}
    found = {file["path"]: file["sha256"] for file in raw_files(place)}
    if place.is_file():
        (name,) = found
        path = _recorded_as(name, known, place)
        known, found = {path: known[path]}, {path: found[name]}
    both = [path for path in sorted(known) if path in found]
    return Comparison(
        same=tuple(path for path in both if known[path] == found[path]),
        differs=tuple(path for path in both if known[path] != found[path]),
        missing=tuple(path for path in sorted(known) if path not in found),
        extra=tuple(path for path in sorted(found) if path not in known),
    )


def _recorded_as(name: str, known: Iterable[str], place: Path) -> str:
    matches = [path for path in known if Path(path).name == name]
    if len(matches) != 1:
        raise SourceError(
            f"{place}: {len(matches)} recorded files have this name; compare the folder"
        )
    return matches[0]


def _describe(root: Path, name: str) -> RawFile:
    path = root / name
    try:
        sha256 = sha256_of(path)
        return {"path": name, "bytes": path.stat().st_size, "sha256": sha256}
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
