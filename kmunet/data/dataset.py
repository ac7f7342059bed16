"""A split of a packed data set as tensors, augmented by (epoch, position)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from kmunet.data.store import PackedSet
from kmunet.data.transforms import Transform


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Items for `GlobalBatchSampler`: the key is (epoch, position in `indices`).

    An item: "image" uint8 (3, S, S), "mask" uint8 (S, S), 0 or the class,
    "index" the row in `packed`. A plain int as key means epoch 0. Pickled without
    its pixels.
    """

    def __init__(
        self,
        packed: PackedSet,
        indices: NDArray[np.int64],
        transform: Transform | None = None,
    ) -> None:
        self.packed = packed
        self.indices = indices
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        epoch, position = (0, key) if isinstance(key, int) else key
        row = int(self.indices[position])
        image = np.array(self.packed.images[row])
        mask = np.array(self.packed.masks[row])
        if self.transform is not None:
            name = self.packed.ids[row]
            image, mask = self.transform(image, mask, epoch=epoch, image_id=name)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        return {
            "image": torch.from_numpy(channels_first),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
            "index": row,
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack items; no items (a rank's empty share) give tensors of length 0."""
        size = self.packed.size
        if not items:
            return {
                "image": torch.empty((0, 3, size, size), dtype=torch.uint8),
                "mask": torch.empty((0, size, size), dtype=torch.uint8),
                "index": torch.empty((0,), dtype=torch.int64),
            }
        return {
            "image": torch.stack([item["image"] for item in items]),
            "mask": torch.stack([item["mask"] for item in items]),
            "index": torch.tensor([item["index"] for item in items]),
        }
