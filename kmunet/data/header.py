"""index.json of a prepared data set: what it holds, and each file's bytes and sha256.

`fingerprint` is the sha256 of all the rest, so it stands for every byte of the set.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kmunet.data.digest import sha256_of
from kmunet.data.progress import parallel_map
from kmunet.errors import DataError

VERSION = 2
NAME = "index.json"
REMEDY = "run the prepare stage again"


def write_header(folder: Path, about: Mapping[str, Any], files: Iterable[str]) -> None:
    """Write index.json for the named files, which lie in `folder` by now."""
    names = sorted(files)
    digests = parallel_map(lambda name: sha256_of(folder / name), names, "checksums")
    header: dict[str, Any] = {
        **about,
        "version": VERSION,
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": found}
            for name, found in zip(names, digests, strict=True)
        },
    }
    header["fingerprint"] = fingerprint(header)
    (folder / NAME).write_bytes(as_json(header))


def read_header(folder: Path) -> dict[str, Any]:
    """index.json, every file it names being there with its size. Raises DataError."""
    path = folder / NAME
    try:
        header = json.loads(path.read_bytes())
        version = header["version"]
        sizes = {name: int(known["bytes"]) for name, known in header["files"].items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); {REMEDY}") from None
    if version != VERSION:
        raise DataError(f"{path}: version {version}, not {VERSION}; {REMEDY}")
    for name, size in sizes.items():
        _require_size(folder / name, size)
    return dict(header)


def verify_packed(folder: Path) -> None:
    """Read every file and compare it with index.json. DataError names the first."""
    header = read_header(folder)
    files = header["files"]
    names = sorted(files)
    digests = parallel_map(lambda name: sha256_of(folder / name), names, "verifying")
    for name, found in zip(names, digests, strict=True):
        if found != files[name]["sha256"]:
            raise DataError(
                f"{folder / name}: its content is not what {NAME} says "
                f"(sha256 {found[:12]}, not {files[name]['sha256'][:12]}); {REMEDY}"
            )
    if header.pop("fingerprint", None) != fingerprint(header):
        raise DataError(f"{folder / NAME}: was changed; {REMEDY}")


def fingerprint(header: Mapping[str, Any]) -> str:
    """sha256 of a header that has none yet."""
    return hashlib.sha256(as_json(header)).hexdigest()


def as_json(value: Mapping[str, Any]) -> bytes:
    """Sorted keys: the same bytes for the same content."""
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def _require_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise DataError(f"{path}: no such file; {REMEDY}") from None
    if size != expected:
        raise DataError(
            f"{path}: {size} bytes, but {NAME} says {expected}: damaged; {REMEDY}"
        )
