"""Which classes masks hold, and which of them later classes cover.

A pixel has one class. Where masks of several classes overlap, the later class lies over
the earlier: right for a tumour declared after its liver, and the loss of a cup declared
before its disc.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmunet.data.decode import Pixels
from kmunet.errors import MaskValueError

LEFT = 0.1  # share of a class below which it counts as covered


@dataclass(frozen=True)
class Layers:
    """Of one image, by number from 1: classes with pixels, and those covered."""

    present: tuple[int, ...] = ()
    covered: tuple[int, ...] = ()  # less than LEFT of them is to be seen


class LayerCount:
    """Images by class, as they come; `covered` has the ids of each class."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._images = 0
        self._seen: set[int] = set()
        self._covered: dict[int, list[str]] = {}

    def add(self, name: str, layers: Layers) -> None:
        """Count the image `name`."""
        self._images += 1
        self._seen.update(set(layers.present) - set(layers.covered))
        for number in layers.covered:
            self._covered.setdefault(number, []).append(name)

    def faults(self) -> list[MaskValueError]:
        """An error for each class that later ones cover wherever masks hold it."""
        return [
            MaskValueError(
                f"class '{self._name(number)}': later classes cover it in every mask "
                f"({len(ids)}, such as {ids[0]}): name the class that encloses others "
                "before them, in 'classes' and in the order of its folder or masks"
            )
            for number, ids in sorted(self._covered.items())
            if number not in self._seen
        ]

    def covered(self) -> list[tuple[str, tuple[str, ...]]]:
        """In words, and the ids, for each class that is covered in some images."""
        return [
            (
                f"class '{self._name(number)}' is covered by later classes, with less "
                f"than {LEFT:.0%} of it left",
                tuple(ids),
            )
            for number, ids in sorted(self._covered.items())
            if number in self._seen
        ]

    def absent(self) -> list[str]:
        """A line for each declared class that no mask holds."""
        wanted = range(1, len(self._classes) + 1) if self._images else ()
        return [
            f"class '{self._name(number)}' has no pixel in any mask"
            for number in wanted
            if number not in self._seen and number not in self._covered
        ]

    def _name(self, number: int) -> str:
        return self._classes[number - 1]


class Stack:
    """Masks of one image laid over each other, (H, W) of classes."""

    def __init__(self, height: int, width: int) -> None:
        self.mask: Pixels = np.zeros((height, width), np.uint8)
        self._lost = np.zeros(256, np.int64)  # pixels by class

    def lay(self, part: Pixels) -> None:
        """Lay classes of the same shape over what is there; 0 covers nothing."""
        if self.mask.any():
            over = (part > 0) & (self.mask > 0) & (self.mask != part)
            self._lost += _count(self.mask[over])
        self.mask = np.where(part > 0, part, self.mask)

    def layers(self) -> Layers:
        """What is to be seen, and what is not."""
        if self.mask.max() <= 1 and not self._lost.any():
            return Layers((1,) if self.mask.any() else ())
        left = _count(self.mask)
        gone = (self._lost > 0) & (left < LEFT * (left + self._lost))
        seen = np.flatnonzero(left)
        return Layers(
            tuple(seen[seen > 0].tolist()),
            tuple(np.flatnonzero(gone).tolist()),
        )


def _count(mask: Pixels) -> NDArray[np.int64]:
    return np.bincount(mask.ravel(), minlength=256)
