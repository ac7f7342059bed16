"""What is known of each image, as one memory-mapped table: index.npy, and its names.

A row of the table has a fixed size; names (ids, groups) lie in a file of UTF-8 text
with their offsets beside it. `Records` builds a Record when one is asked for.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.arrays import load_array
from kmunet.data.groups import KINDS, Link
from kmunet.data.native import PLACE
from kmunet.data.record import SPLITS, Record

LINKS = np.dtype(
    [("a", "<u4"), ("b", "<u4"), ("kind", "u1"), ("score", "<f8"), ("shift", "<i2", 2)]
)


def index_type(sizes: int, native: bool) -> np.dtype[Any]:
    """Of a row, where images are kept at `sizes` sizes. -1: has none."""
    fields: list[Any] = [
        ("height", "<u4"),
        ("width", "<u4"),
        ("foreground", "<f8"),
        ("image_sha256", "u1", 32),
        ("sha256", "u1", 32),
        ("grey_edges", "?"),
        ("peak", "u1"),
        ("split", "i1"),  # as the source declares it, of SPLITS
        ("category", "<i4"),
        ("group", "<i4"),
        ("sums", "<i8", (sizes, 3)),  # of a channel's values at each size
        ("squares", "<i8", (sizes, 3)),
    ]
    return np.dtype([*fields, ("native", PLACE)] if native else fields)


class Names(Sequence[str]):
    """Texts by number, from a mapped file; none is kept as an object."""

    def __init__(self, ends: NDArray[np.uint64], text: NDArray[np.uint8]) -> None:
        self._ends, self._text = ends, text

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        start = int(self._ends[number - 1]) if number else 0
        return bytes(self._text[start : int(self._ends[number])]).decode()


class Records(Sequence[Record]):
    """Rows of the index as Records, made when asked for."""

    def __init__(
        self,
        index: NDArray[Any],
        ids: Names,
        groups: Names,
        categories: Sequence[str],
        places: Sequence[str] | None = None,
        clusters: NDArray[np.int32] | None = None,
    ) -> None:
        """`places`, `clusters`: of a split, with its names as `groups`.

        Without them, split and group are as the source declares them.
        """
        self._index, self._ids, self._groups = index, ids, groups
        self._categories, self._places = categories, places
        self._clusters = index["group"] if clusters is None else clusters

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Record]:
        for row in range(len(self)):
            yield self[row]

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[n] for n in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        known = self._index[row]
        category, group = int(known["category"]), int(self._clusters[row])
        return Record(
            id=self._ids[row],
            category=None if category < 0 else self._categories[category],
            height=int(known["height"]),
            width=int(known["width"]),
            foreground=float(known["foreground"]),
            image_sha256=known["image_sha256"].tobytes().hex(),
            sha256=known["sha256"].tobytes().hex(),
            grey_edges=bool(known["grey_edges"]),
            peak=int(known["peak"]),
            split=self._places[row] if self._places else declared(known) or "",
            group=None if group < 0 else self._groups[group],
        )


def declared(known: np.void) -> str | None:
    """The split that the source declares for a row of the index."""
    place = int(known["split"])
    return None if place < 0 else SPLITS[place]


def write_names(folder: Path, kind: str, names: Iterable[str]) -> list[str]:
    """Write `kind`.bin and `kind`.npy; their names."""
    ends = array("Q")
    with (folder / f"{kind}.bin").open("wb") as file:
        for name in names:
            file.write(name.encode())
            ends.append(file.tell())
    np.save(
        folder / f"{kind}.npy",
        np.frombuffer(ends, "=u8").astype("<u8") if ends else np.zeros(0, "<u8"),
    )
    return [f"{kind}.bin", f"{kind}.npy"]


def open_names(folder: Path, kind: str) -> Names:
    """Map what `write_names` wrote. OSError or ValueError where it is damaged."""
    ends = load_array(folder / f"{kind}.npy", mapped=True)
    return Names(ends, map_bytes(folder / f"{kind}.bin"))


def map_bytes(path: Path) -> NDArray[np.uint8]:
    """A file's bytes (N,), mapped."""
    if not path.stat().st_size:  # an empty file cannot be
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, "r")


def links_table(links: Sequence[Link]) -> NDArray[Any]:
    """Links as rows of LINKS."""
    rows = [(k.a, k.b, KINDS.index(k.kind), k.score, k.shift) for k in links]
    return np.array(rows, LINKS)


def links_of(table: NDArray[Any]) -> list[Link]:
    """Rows of LINKS as links."""
    return [
        Link(a, b, KINDS[kind], score, (int(shift[0]), int(shift[1])))
        for a, b, kind, score, shift in table.tolist()
    ]
