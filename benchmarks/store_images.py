"""Real images to store: BUSI and ISIC 2017, turned and mirrored when all are used."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.stores import Pair
from kmunet.data.progress import parallel_map
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.sources import open_source

KINDS = {"busi": "Dataset_BUSI*", "isic2017": "ISIC-2017_*"}  # and their archives


@dataclass(frozen=True)
class Turned:
    """`count` pairs made from fewer: each round in another of eight orientations."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    count: int

    @property
    def size(self) -> int:
        return int(self.images.shape[1])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Pair:
        orientation, base = divmod(row, len(self.images))
        image, mask = self.images[base], self.masks[base]
        if orientation & 4:
            image, mask = image[:, ::-1], mask[:, ::-1]
        turned = np.rot90(image, orientation & 3), np.rot90(mask, orientation & 3)
        return np.ascontiguousarray(turned[0]), np.ascontiguousarray(turned[1])


def load(folder: Path, size: int, count: int) -> Turned:
    """At most `count` pairs of the archives in `folder`, in equal numbers while both
    last, at `size` x `size`. Raises SourceError where an archive is missing."""
    images, masks = [], []
    left = count
    for place, (kind, archives) in enumerate(KINDS.items()):
        share = left // (len(KINDS) - place)
        with open_source(kind, sorted(folder.glob(archives)) or folder) as source:
            pairs = list(islice(source.pairs(), share))
            for image, mask in parallel_map(lambda p: p.read(), pairs, kind):
                images.append(resize_image(image, size, size))
                masks.append(resize_mask(mask, size, size))
        left -= len(pairs)
    return Turned(np.stack(images), np.stack(masks), count)
