"""`write_split`: a split of a prepared data set, from its index alone.

splits.json is for people and diffs, places.npy (a number of PLACES a row) and
clusters.npy (what must stay together, names.*) for readers, split.json counts, and
holds mean and standard deviation of the training images (1 where a channel has one
value: inputs are divided by it).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.atomic import new_folder
from kmunet.data.class_presence import absent_classes
from kmunet.data.header import as_json
from kmunet.data.index import write_names
from kmunet.data.prepared import Prepared
from kmunet.data.protocols import Known, SplitRules, artifact, divide
from kmunet.data.record import PLACES, SPLITS, in_split
from kmunet.data.store import PackedSet, open_packed, split_fingerprint

VERSION = 1
_CHANNELS = ("red", "green", "blue")
_CONSTANT = 1.0  # beyond any deviation of values from 0 to 1, at most 0.5


def write_split(
    prepared: Prepared, folder: Path, rules: SplitRules, settings: dict[str, Any]
) -> PackedSet:
    """Divide by the rules; `settings` are what is written of them.

    No image is read, and masks only where they hold several classes.
    Raises DataError, with the pair, where a leak is left.
    """
    known = Known(
        prepared.known_splits(), prepared.known_groups(), prepared.header["splits"]
    )
    division = divide(prepared.records, prepared.links(), known, rules)
    places = np.array([PLACES.index(place) for place in division.places], np.uint8)
    statistics = {
        str(size): _statistics(prepared, n, in_split(places, "train"))
        for n, size in enumerate(prepared.sizes)
    }
    division = division.noting(
        [*absent_classes(prepared, places), *_constant(statistics)]
    )
    table = {
        "version": VERSION,
        "settings": settings,
        "counts": {split: _count(prepared, places, split) for split in SPLITS},
        "statistics": statistics,
        "notes": list(division.notes),
        "prepared": prepared.fingerprint,
        "fingerprint": split_fingerprint(prepared, places),
    }
    with new_folder(folder) as partial:
        readable = artifact(prepared.records, division, settings)
        (partial / "splits.json").write_bytes(readable)
        (partial / "split.json").write_bytes(as_json(table))
        np.save(partial / "places.npy", places)
        _write_clusters(partial, division.groups)
    return open_packed(prepared.folder, folder)


def _write_clusters(folder: Path, groups: Sequence[str | None]) -> None:
    """What must stay together, by number (-1: alone), and the names by number."""
    named = dict.fromkeys(group for group in groups if group is not None)
    numbers = {name: number for number, name in enumerate(named)}
    found = [-1 if group is None else numbers[group] for group in groups]
    np.save(folder / "clusters.npy", np.array(found, np.int32))
    write_names(folder, "names", named)


def _count(
    prepared: Prepared, places: NDArray[np.uint8], split: str
) -> dict[str, float | int]:
    """Images, those without a lesion, and the mean share of the lesion."""
    shares = prepared.index["foreground"][in_split(places, split)].tolist()
    return {
        "images": len(shares),
        "empty": sum(share == 0.0 for share in shares),
        "foreground": round(sum(shares) / max(1, len(shares)), 6),
    }


def _statistics(
    prepared: Prepared, place: int, rows: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """Mean and std per channel on the scale 0 to 1, at one size."""
    sums = prepared.index["sums"][rows, place].sum(axis=0)
    squares = prepared.index["squares"][rows, place].sum(axis=0)
    pixels = max(1, int(rows.sum())) * prepared.sizes[place] ** 2
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    return {
        "mean": [round(float(value) / 255, 6) for value in mean],
        "std": [round(float(value) / 255, 6) or _CONSTANT for value in std],
    }


def _constant(statistics: dict[str, dict[str, list[float]]]) -> list[str]:
    """A line on the channels that have one value, at any size."""
    found = [
        name
        for channel, name in enumerate(_CHANNELS)
        if any(size["std"][channel] == _CONSTANT for size in statistics.values())
    ]
    text = "the same value in all pixels of the training images, not scaled"
    return [f"{' and '.join(found)}: {text}"] if found else []
