"""What is known of one example of a prepared data set: a row of manifest.json."""

from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
BOTH = "validation+test"  # protocol `paper` selects on the images that it reports
LEFT_OUT = "left out"  # its like is in an official test set


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
