"""Files of a data set by name, from a folder or from a zip, read safely.

An archive is never unpacked: members are read into memory one at a time, after the
whole list of names was checked for paths outside, links and bombs.
"""

import os
import re
import stat
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from kmunet.errors import SourceError, UnreadableError

MAX_FILES = 500_000
MAX_FILE_BYTES = 4 * 2**30
MAX_TOTAL_BYTES = 512 * 2**30
MAX_RATIO = 1100  # deflate cannot exceed 1032:1
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp",
)  # fmt: skip
# Of what lies beside images, and is none.
BESIDE = (
    ".txt", ".csv", ".tsv", ".xml", ".json", ".md", ".rst", ".pdf", ".html", ".htm",
    ".yaml", ".yml", ".log", ".ini", ".db", ".doc", ".docx", ".xls", ".xlsx", ".rtf",
    ".dvc", ".md5", ".sha256",
)  # fmt: skip
_TEXTS = ("readme", "license", "licence", "copying", "changelog", "md5sums")
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


class Files(Protocol):
    """Named files: `label` for messages, sorted relative names, bytes by name."""

    label: str

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def close(self) -> None: ...


def is_image(name: str) -> bool:
    """Whether the suffix is one of `IMAGE_SUFFIXES`, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_unread(name: str) -> bool:
    """Whether it may be an image of a type that is not read: no text or table."""
    last = name.rsplit("/", 1)[-1].lower()
    return not (is_image(name) or last.endswith(BESIDE) or last.startswith(_TEXTS))


def open_files(path: Path, wanted: str) -> Files:
    """The files of a folder, of the one zip that it holds, or of a zip itself.

    A folder with images in it is read as it lies, even when a zip lies beside them.
    `wanted` says what to put there when there is nothing. Raises SourceError.
    """
    if not path.exists():
        raise SourceError(f"{path}: no such folder; put {wanted} there")
    if path.is_file():
        return open_zip(path)
    folder = FolderFiles(path)
    names = folder.names()
    zips = [name for name in names if name.lower().endswith(".zip")]
    if any(is_image(name) for name in names) or not zips:
        if not names:
            raise SourceError(f"{path}: the folder is empty; put {wanted} there")
        refuse_packed(names, str(path))
        return folder
    if len(zips) > 1:
        raise SourceError(
            f"{path}: {len(zips)} archives ({', '.join(zips[:5])}); leave one, "
            f"or unpack them: expected {wanted}"
        )
    return ZipFiles(path / zips[0])


def open_zip(path: Path) -> "ZipFiles":
    """The zip at `path`. Raises SourceError, also for other kinds of archive."""
    refuse_packed([path.name], str(path.parent))
    return ZipFiles(path)


def refuse_packed(names: Iterable[str], label: str) -> None:
    """Raise SourceError where there is nothing but archives that are not zips."""
    listed = list(names)
    packed = [name for name in listed if name.lower().endswith(OTHER_ARCHIVES)]
    if packed and not any(is_image(name) for name in listed):
        raise SourceError(
            f"{label}: {packed[0]}: only zip archives are read; unpack it there"
        )


class FolderFiles:
    """Files below a folder; symbolic links are followed (DVC's cache makes them)."""

    def __init__(self, root: Path, names: Iterable[str] | None = None) -> None:
        self.root = root
        self.label = str(root)
        self._names = sorted(_limited(names or self._walk(), self.label))

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UnreadableError(f"{name}: {error.strerror or error}") from None

    def close(self) -> None:
        """Nothing is held open."""

    def _walk(self) -> Iterator[str]:
        walk = os.walk(self.root, onerror=_refuse_closed, followlinks=True)
        for folder, below, files in walk:
            below[:] = [n for n in below if not _is_clutter(n) and n != "lost+found"]
            relative = Path(folder).relative_to(self.root)
            for file in files:
                name = (relative / file).as_posix()
                if not _is_clutter(name):
                    _require_utf8(name, self.label)
                    yield name


class ZipFiles:
    """Members of a zip; `read` may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from None
        except Exception as error:  # a damaged directory makes zipfile raise nearly all
            raise SourceError(
                f"{path}: not a zip archive or cut short ({error}); download it again"
            ) from None
        self._lock = threading.Lock()
        try:
            self._members = self._check()
        except SourceError:
            self._zip.close()
            raise

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        try:
            with self._lock:
                return self._zip.read(self._members[name])
        except NotImplementedError as error:
            reason = f"{error}; unpack the archive with another tool"
        except Exception as error:  # as above, when a member's header is damaged
            reason = f"damaged in the archive ({error}); download it again"
        raise UnreadableError(f"{name}: {reason}")

    def close(self) -> None:
        self._zip.close()

    def _check(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in self._zip.infolist():
            parts = info.filename.replace("\\", "/").split("/")
            name = "/".join(part for part in parts if part != ".")  # of "zip -r x ./"
            self._refuse(info, name)
            if info.is_dir() or _is_clutter(name):
                continue
            if name in members:
                raise SourceError(f"{self.label}: holds '{name}' twice; make it anew")
            members[name] = info
            total += info.file_size
        list(_limited(members, self.label))
        if total > MAX_TOTAL_BYTES:
            raise SourceError(f"{self.label}: {total} bytes unpacked, above the limit")
        return members

    def _refuse(self, info: zipfile.ZipInfo, name: str) -> None:
        fault = ""
        if name.startswith("/") or re.match(r"^[A-Za-z]:", name):
            fault = "an absolute path"
        elif ".." in name.split("/"):
            fault = "a path that leads outside"
        elif stat.S_ISLNK(info.external_attr >> 16):
            fault = "a link"
        elif info.flag_bits & 1:
            fault = "locked by a password"
        elif info.file_size > MAX_FILE_BYTES:
            fault = f"{info.file_size} bytes unpacked, above the limit"
        elif info.file_size > MAX_RATIO * max(info.compress_size, 64):
            fault = "packed more tightly than any image can be"
        if fault:
            raise SourceError(
                f"{self.label}: refused: member '{name}' is {fault}; "
                "unpack and check the archive by hand"
            )


def _is_clutter(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or (
        parts[-1] in {"Thumbs.db", "desktop.ini"}
    )


def _refuse_closed(error: OSError) -> None:
    raise SourceError(
        f"{error.filename}: {error.strerror}; make it readable, or move it away"
    )


def _require_utf8(name: str, label: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"{label}: {os.fsencode(name)!r}: a name that is not UTF-8; rename it"
        ) from None


def _limited(names: Iterable[str], label: str) -> Iterator[str]:
    for count, name in enumerate(names, start=1):
        if count > MAX_FILES:
            raise SourceError(f"{label}: more than {MAX_FILES} files")
        yield name
