"""Source `manifest`: a CSV or Parquet table of pairs, with groups and splits.

Columns: image, mask (several joined by ";", or several rows of one image), and where
known id, group, split (train, validation or val, test) and category. Paths are
relative to the table, and stay below its folder.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from kmunet.data.archive import Files, FolderFiles, is_image
from kmunet.data.joined import open_one
from kmunet.data.masks import class_form
from kmunet.data.pairs import Pair, Source, stem
from kmunet.errors import SourceError, UnreadableError

WANTED = "manifest.csv (or .parquet) with columns image, mask, group, split"
SUFFIXES = (".csv", ".parquet")
_COLUMNS = ("image", "mask", "id", "group", "split", "category")
_SPLITS = {"train": "train", "training": "train", "validation": "validation",
           "val": "validation", "valid": "validation", "test": "test"}  # fmt: skip
Row = Mapping[str, str]


def open_manifest(
    paths: Sequence[Path],
    classes: tuple[str, ...] = (),
    values: tuple[int | str, ...] = (),
) -> Source:
    """Pairs of the table at the path, or of the one table in the folder or zip.

    Raises SourceError naming the table and the line at fault.
    """
    form = class_form(classes, values)
    files, table = _open(paths)
    try:
        rows = _read(files, table)
        pairs, problems = _pairs(files, table, rows)
    except SourceError:
        files.close()
        raise
    pairs = [replace(pair, form=form) for pair in pairs]
    declared = any(pair.split for pair in pairs)
    return Source(
        "manifest", files, tuple(sorted(pairs, key=lambda pair: pair.id)),
        tuple(problems), classes=classes or ("foreground",),
        splits="declared" if declared else "",
    )  # fmt: skip


def _open(paths: Sequence[Path]) -> tuple[Files, str]:
    path = paths[0]
    if len(paths) == 1 and path.is_file() and path.suffix.lower() in SUFFIXES:
        return FolderFiles(path.parent), path.name
    files = open_one(paths, WANTED)
    tables = [n for n in files.names() if n.lower().endswith(SUFFIXES)]
    if len(tables) != 1:
        files.close()
        found = f"{len(tables)} tables ({', '.join(tables[:4])})" if tables else "none"
        raise SourceError(f"{files.label}: expected one {WANTED}; found {found}")
    return files, tables[0]


def _read(files: Files, table: str) -> list[Row]:
    try:
        data = files.read(table)
        read = _parquet if table.lower().endswith(".parquet") else _csv
        header, rows = read(data)
    except UnreadableError as error:
        raise SourceError(f"{files.label}: {error}") from None
    except Exception as error:  # readers of tables raise nearly anything
        raise SourceError(
            f"{files.label}: {table}: cannot be read as a table ({error})"
        ) from None
    fault = _fault(header, rows)
    if fault:
        raise SourceError(f"{files.label}: {table}: {fault}")
    return rows


def _fault(header: Sequence[str], rows: Sequence[Row]) -> str:
    """What is wrong with a table as a whole, and what to do; "" if nothing."""
    known = {_name(column) for column in header}
    for column in ("image", "mask"):
        if column not in known:
            found = ", ".join(header) or "no rows"
            return f"no column '{column}'; found {found}: {_remedy(header)}"
    return "" if rows else "no rows below the header: add one for each image"


def _remedy(header: Sequence[str]) -> str:
    for mark, word in ((";", "';'"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            return f"separate the columns by commas, not by {word}"
    return f"rename its columns; expected {WANTED}"


def _csv(data: bytes) -> tuple[list[str], list[Row]]:
    text = data.decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return list(rows.fieldnames or ()), [_row(row) for row in rows]


def _parquet(data: bytes) -> tuple[list[str], list[Row]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data))
    return list(table.column_names), [_row(row) for row in table.to_pylist()]


def _name(column: object) -> str:
    return str(column).strip().lower()


def _row(row: Mapping[Any, Any]) -> Row:
    """Named columns that we know, as stripped text; missing values are ""."""
    clean = {_name(key): value for key, value in row.items()}
    return {
        key: "" if value is None or value != value else str(value).strip()
        for key, value in clean.items()
        if key in _COLUMNS
    }


def _pairs(
    files: Files, table: str, rows: Sequence[Row]
) -> tuple[list[Pair], list[str]]:
    there = set(files.names())
    home = PurePosixPath(table).parent
    problems: list[str] = []
    found: dict[str, Pair] = {}
    images = {_slashes(row["image"]) for row in rows}
    by_stem = len({stem(name) for name in images}) == len(images)
    for line, row in enumerate(rows, start=2):
        where = f"{table}: line {line}"
        names = [row["image"], *_split(row["mask"])]
        if not row["image"] or len(names) == 1:
            problems.append(f"{where}: no {'mask' if row['image'] else 'image'} given")
            continue
        full = [_below(home, name, f"{files.label}: {where}") for name in names]
        missing = [name for name in full if name not in there or not is_image(name)]
        if missing:
            problems.append(f"{where}: {missing[0]}: no such image file")
            continue
        default = (
            stem(full[0]) if by_stem else str(PurePosixPath(full[0]).with_suffix(""))
        )
        new = Pair(
            row.get("id") or default, full[0], tuple(full[1:]),
            row.get("category") or None, files,
            split=_place(row, f"{files.label}: {where}"),
            group=row.get("group") or None,
        )  # fmt: skip
        old = found.get(new.id)
        if old is not None:
            if replace(new, masks=old.masks) != old:
                problems.append(f"{where}: '{new.id}' stands there twice, differently")
            new = replace(old, masks=(*old.masks, *new.masks))
        found[new.id] = new
    return list(found.values()), problems


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _slashes(name: str) -> str:
    """A path as Windows writes it, as others do."""
    return name.replace("\\", "/")


def _below(home: PurePosixPath, name: str, where: str) -> str:
    path = PurePosixPath(_slashes(name))
    outside = path.is_absolute() or ".." in path.parts
    if outside or not path.parts or ":" in path.parts[0]:
        raise SourceError(
            f"{where}: '{name}': paths must be relative to the table and lie below it"
        )
    return (home / path).as_posix()


def _place(row: Row, where: str) -> str | None:
    text = row.get("split", "").lower()
    if text and text not in _SPLITS:
        raise SourceError(
            f"{where}: split '{row['split']}'; choose of train, validation and test"
        )
    return _SPLITS[text] if text else None
