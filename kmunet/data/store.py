"""A prepared data set with a split: what training and evaluation read."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.arrays import load_array
from kmunet.data.index import Names, Records, open_names
from kmunet.data.prepared import Prepared, open_prepared
from kmunet.data.record import PLACES, SPLITS, in_split
from kmunet.data.shards import Pixels, Shards
from kmunet.errors import DataError

__all__ = ["PackedSet", "open_packed", "open_prepared"]
_REMEDY = "run the split stage again"


@dataclass(frozen=True)
class PackedSet:
    """Images at one size and who is where. Pickled by its folders: pages are shared."""

    prepared: Prepared
    splits: Path
    size: int  # side of the square, pixels
    places: NDArray[np.uint8]  # (N,) of PLACES
    clusters: NDArray[np.int32]  # (N,) what must stay together; -1: is alone
    groups: Names  # of the clusters
    division: dict[str, Any]  # split.json

    @property
    def images(self) -> Shards:
        """(N, S, S, 3) RGB."""
        return self.prepared.images[self.size]

    @property
    def masks(self) -> Shards:
        """(N, S, S), 0 or the class."""
        return self.prepared.masks[self.size]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 1, 2, ... in the masks."""
        return tuple(self.prepared.header["classes"])

    @property
    def ids(self) -> Names:
        return self.prepared.ids

    @cached_property
    def records(self) -> Records:
        """A Record a row, with its place in the split and its cluster as its group."""
        own, places = self.prepared, [PLACES[n] for n in self.places.tolist()]
        categories, clusters = own.header["categories"], self.clusters
        return Records(own.index, own.ids, self.groups, categories, places, clusters)

    @property
    def fingerprint(self) -> str:
        """sha256 for pixels, names, split and size: all that training depends on."""
        text = f"{self.division['fingerprint']}:{self.size}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def mean(self) -> list[float]:
        """Of the training images at this size, by channel, on the scale 0 to 1."""
        return list(self.division["statistics"][str(self.size)]["mean"])

    @property
    def std(self) -> list[float]:
        return list(self.division["statistics"][str(self.size)]["std"])

    @property
    def manifest(self) -> dict[str, Any]:
        """All that is told of this set: source, counts, settings, warnings."""
        header = self.prepared.header
        return {
            "source": header["source"],
            "size": self.size,
            "counts": self.division["counts"],
            "split": self.division["settings"],
            "mean": self.mean,
            "std": self.std,
            "warnings": [*header["warnings"], *self.division["notes"]],
            "fingerprint": self.fingerprint,
        }

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of "train", "validation" or "test", ascending."""
        if split not in SPLITS:
            raise DataError(f"unknown split '{split}'; choose of {', '.join(SPLITS)}")
        return np.flatnonzero(in_split(self.places, split)).astype(np.int64)

    def native(self, row: int) -> tuple[Pixels, Pixels]:
        """Image (H, W, 3) and mask (H, W) at native size."""
        return self.prepared.native(row)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_packed, (self.prepared.folder, self.splits, self.size)


def open_packed(folder: Path, splits: Path, size: int | None = None) -> PackedSet:
    """Map a prepared data set and its split, at `size` or at the first of its sizes.

    Raises DataError where one is missing, damaged or of other data.
    """
    prepared = open_prepared(folder)
    try:
        division = json.loads((splits / "split.json").read_bytes())
        places = load_array(splits / "places.npy")
        clusters = load_array(splits / "clusters.npy")
        groups = open_names(splits, "names")
        made_for = division["prepared"]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; {_REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{splits}: damaged ({error}); {_REMEDY}") from None
    if made_for != prepared.fingerprint:
        raise DataError(f"{splits}: of other data than {folder} holds; {_REMEDY}")
    if division["fingerprint"] != split_fingerprint(prepared, places):
        raise DataError(f"{splits}: places.npy and split.json differ; {_REMEDY}")
    chosen = choose_size(prepared, size)
    return PackedSet(
        prepared, splits.absolute(), chosen, places, clusters, groups, division
    )


def choose_size(prepared: Prepared, size: int | None) -> int:
    """`size` if it was prepared; the first of the sizes for None. Raises DataError."""
    if size is None:
        return prepared.sizes[0]
    if size not in prepared.sizes:
        raise DataError(
            f"train.size: {size} is none of the sizes in {prepared.folder.name}: "
            f"{', '.join(map(str, prepared.sizes))}; choose one of these, or add it to "
            "'sizes' under 'sources' and run the prepare stage"
        )
    return size


def split_fingerprint(prepared: Prepared, places: NDArray[np.uint8]) -> str:
    """sha256 of a prepared set and who is where in it."""
    digest = hashlib.sha256(prepared.fingerprint.encode())
    digest.update(np.ascontiguousarray(places, np.uint8).data)
    return digest.hexdigest()
