"""Classes that a split has no image of: told, as chance deals out what is rare.

The index does not say what classes a mask holds, so the masks are read, where there
are several.
"""

import numpy as np
from numpy.typing import NDArray

from kmunet.data.prepared import Prepared
from kmunet.data.record import SPLITS, in_split


def absent_classes(prepared: Prepared, places: NDArray[np.uint8]) -> list[str]:
    """A note for each class that is in no image of a split. `places`: (N,) of PLACES.

    None of data with one class: empty masks are counted anyway.
    """
    names = prepared.header["classes"]
    if len(names) < 2:
        return []
    held = _held(prepared, len(names))
    notes = []
    for name, rows in zip(names, held.T, strict=True):
        counts = {split: int(rows[in_split(places, split)].sum()) for split in SPLITS}
        absent = [split for split in SPLITS if not counts[split]]
        if absent:
            found = ", ".join(f"{split} {count}" for split, count in counts.items())
            so = "cannot be learnt" if "train" in absent else "is not measured there"
            notes.append(
                f"class '{name}' is in no image of {' and '.join(absent)} and {so} "
                f"(images with it: {found}); try another split.seed, or add images"
            )
    return notes


def _held(prepared: Prepared, classes: int) -> NDArray[np.bool_]:
    """Whether the mask of a row holds a class, (N, classes), at the largest size."""
    masks = prepared.masks[max(prepared.sizes)]
    held = np.zeros((len(masks), classes), np.bool_)
    for row in range(len(masks)):
        counts = np.bincount(masks[row].ravel(), minlength=classes + 1)
        held[row] = counts[1 : classes + 1] > 0
    return held
