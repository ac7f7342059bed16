"""What is known of one example of a data set, and where a split may put it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
BOTH = "validation+test"  # protocol `paper` selects on the images that it reports
LEFT_OUT = "left out"  # its like is in an official test set
PLACES = (*SPLITS, BOTH, LEFT_OUT)  # as places.npy numbers them


@dataclass(frozen=True)
class Record:
    """One image and its mask; hashes are of decoded pixels at native size."""

    id: str
    category: str | None
    height: int  # native, pixels
    width: int
    foreground: float  # share of the pixels
    image_sha256: str  # of the image alone: finds duplicates
    sha256: str  # of image and mask
    grey_edges: bool = False  # mask values between its two
    peak: int = 255  # brightest value
    split: str = ""  # one of SPLITS once split, BOTH, or LEFT_OUT
    group: str | None = None  # what must stay on one side of a split with it


def in_split(places: NDArray[np.uint8], split: str) -> NDArray[np.bool_]:
    """Which rows are in a split, from their numbers in PLACES (N,)."""
    names = (split,) if split == "train" else (split, BOTH)
    return np.isin(places, [PLACES.index(name) for name in names])
