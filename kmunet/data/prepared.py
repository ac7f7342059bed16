"""A prepared data set, opened: pixels at each size, native files, index and links.

All of it is mapped, nothing is read before it is asked for; a worker process that is
forked or spawned shares the pages with the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data import native
from kmunet.data.arrays import load_array
from kmunet.data.groups import Link
from kmunet.data.header import REMEDY, read_header
from kmunet.data.index import (
    LINKS,
    Names,
    Records,
    index_type,
    links_of,
    map_bytes,
    open_names,
)
from kmunet.data.record import SPLITS
from kmunet.data.shards import Pixels, Shards, shard_names
from kmunet.errors import DataError


@dataclass(frozen=True)
class Prepared:
    """What the stage `prepare` leaves. Pickled by its folder."""

    folder: Path
    header: dict[str, Any]
    index: NDArray[Any]  # (N,) of index_type
    ids: Names
    groups: Names  # as the source declares them
    images: Mapping[int, Shards]  # by size S: (N, S, S, 3) RGB
    masks: Mapping[int, Shards]  # by size: (N, S, S), 0 or the class
    files: tuple[Pixels, ...]  # of native pairs

    @property
    def fingerprint(self) -> str:
        """sha256 that stands for every byte of the set."""
        return str(self.header["fingerprint"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the squares, pixels, in the order of params.yaml."""
        return tuple(self.header["sizes"])

    @cached_property
    def records(self) -> Records:
        """A Record a row, with group and split as the source declares them."""
        return Records(self.index, self.ids, self.groups, self.header["categories"])

    def __len__(self) -> int:
        return len(self.index)

    def links(self) -> list[Link]:
        """All pairs of duplicates of any kind."""
        return links_of(_load(self.folder / "links.npy", None, LINKS))

    def known_splits(self) -> list[str | None]:
        """Where the source puts each image."""
        return [None if n < 0 else SPLITS[n] for n in self.index["split"].tolist()]

    def known_groups(self) -> list[str | None]:
        """The group that the source declares for each image."""
        names = list(self.groups)
        return [None if n < 0 else names[n] for n in self.index["group"].tolist()]

    def native(self, row: int) -> tuple[Pixels, Pixels]:
        """Image (H, W, 3) and mask (H, W) at their native size."""
        return self.native_image(row), self.native_mask(row)

    def native_image(self, row: int) -> Pixels:
        """Image uint8 RGB (H, W, 3), pixel for pixel as it was decoded."""
        return native.read_image(self.files, self._place(row), self.ids[row])

    def native_mask(self, row: int) -> Pixels:
        """Mask uint8 (H, W), 0 or the class."""
        return native.read_mask(self.files, self._place(row), self.ids[row])

    def __reduce__(self) -> tuple[Any, ...]:
        return open_prepared, (self.folder,)

    def _place(self, row: int) -> Any:
        if not self.header["native"]:
            raise DataError(
                f"{self.folder}: holds no images at native size; set prepare.native to "
                "true in params.yaml and run the prepare stage"
            )
        return self.index[row]["native"]


def open_prepared(folder: Path) -> Prepared:
    """Map a prepared data set. Raises DataError where it is missing or damaged.

    Sizes and shapes are checked, content is not: `verify_packed` reads all of it.
    """
    header = read_header(folder)
    try:
        count, sizes = header["count"], header["sizes"]
        index = _load(
            folder / "index.npy", (count,), index_type(len(sizes), header["native"])
        )
        images, masks = {}, {}
        for size in sizes:
            rows = header["shard_rows"][str(size)]
            images[size] = _shards(folder, "images", count, rows, (size, size, 3))
            masks[size] = _shards(folder, "masks", count, rows, (size, size))
        files = tuple(map_bytes(folder / name) for name in header["native_files"])
        return Prepared(
            folder.absolute(),
            header,
            index,
            open_names(folder, "ids"),
            open_names(folder, "groups"),
            images,
            masks,
            files,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{folder}: damaged ({error}); {REMEDY}") from None


def _shards(
    folder: Path, kind: str, count: int, rows: int, shape: tuple[int, ...]
) -> Shards:
    parts = []
    for number, name in enumerate(shard_names(str(shape[0]), kind, count, rows)):
        own = min(rows, count - number * rows)
        parts.append(_load(folder / name, (own, *shape), np.dtype(np.uint8)))
    return Shards(parts)


def _load(path: Path, shape: tuple[int, ...] | None, kind: np.dtype[Any]) -> Any:
    """Map an .npy file of this type. DataError for another shape or type, or none."""
    try:
        array = load_array(path, mapped=True)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); {REMEDY}") from None
    if array.dtype != kind or (shape is not None and array.shape != shape):
        raise DataError(
            f"{path}: {array.dtype} {array.shape}, but index.json says {kind} "
            f"{shape}; {REMEDY}"
        )
    return array
