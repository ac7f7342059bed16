"""Several archives and folders as one: a data set that comes in parts, as ISIC does."""

from collections.abc import Sequence
from pathlib import Path

from kmunet.data.archive import (
    Files,
    FolderFiles,
    ZipFiles,
    is_image,
    open_files,
    open_zip,
    refuse_packed,
)
from kmunet.errors import SourceError


def open_parts(paths: Sequence[Path], wanted: str) -> Files:
    """All files below the folders and in the archives of `paths`.

    A folder's archives are read with it, but those that lie unpacked beside. Names in
    an archive start with its name where there are several parts. Raises SourceError.
    """
    parts: dict[str, Files] = {}
    try:
        for path in paths:
            for name, files in _open(path, wanted, several=len(paths) > 1):
                while name in parts:
                    name += "_"
                parts[name] = files
        if not parts:
            raise SourceError(f"{paths[0]}: the folder is empty; put {wanted} there")
        if len(parts) == 1:
            return next(iter(parts.values()))
        return JoinedFiles(parts)
    except SourceError:
        for files in parts.values():
            files.close()
        raise


def open_one(paths: Sequence[Path], wanted: str) -> Files:
    """As `open_files` for one path, `open_parts` for more."""
    return (
        open_files(paths[0], wanted) if len(paths) == 1 else open_parts(paths, wanted)
    )


def _open(path: Path, wanted: str, several: bool) -> list[tuple[str, Files]]:
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder; put {wanted} there")
    if path.is_file():
        return [(path.stem, open_zip(path))]
    folder = FolderFiles(path)
    names = folder.names()
    refuse_packed(names, str(path))
    found: list[tuple[str, Files]] = []
    if any(is_image(name) for name in names):
        found.append((path.name if several else "", folder))
    lying = {name.split("/")[0] for name in names if is_image(name)}
    for name in names:
        if name.lower().endswith(".zip"):
            archive = ZipFiles(path / name)
            if found and _is_unpacked(archive, lying):
                archive.close()
            else:
                found.append((Path(name).stem, archive))
    return found


def _is_unpacked(archive: Files, lying: set[str]) -> bool:
    tops = {name.split("/")[0] for name in archive.names() if is_image(name)}
    return bool(tops) and tops <= lying


class JoinedFiles:
    """The files of several parts, each under the part's name."""

    def __init__(self, parts: dict[str, Files]) -> None:
        self._parts = parts
        labels = [files.label for files in parts.values()]
        self.label = ", ".join(labels[:2]) + (", ..." if len(labels) > 2 else "")
        self._names: dict[str, tuple[Files, str]] = {}
        for part, files in parts.items():
            for name in files.names():
                full = f"{part}/{name}" if part else name
                if full in self._names:
                    raise SourceError(f"{files.label}: '{full}' twice; keep one copy")
                self._names[full] = (files, name)

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        files, own = self._names[name]
        return files.read(own)

    def close(self) -> None:
        for files in self._parts.values():
            files.close()
