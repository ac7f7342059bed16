"""Batches on the device: this rank's share of each global batch, scaled."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kmunet.data.sampler import GlobalBatchSampler
from kmunet.training.reporter import Reporter

if TYPE_CHECKING:
    from kmunet.config import TrainParams

Batch = tuple[Tensor, Tensor]


class Samples(Sized, Protocol):
    """A map from (epoch, position) to {"image": uint8 (3,S,S), "mask": uint8 (S,S)}."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TrainingData:
    """What is learnt from, what is selected on, and the scaling of inputs in 0-1."""

    train: Samples
    validation: Samples
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Batches:
    """(image, mask) float32 (B, 3, S, S) and (B, 1, S, S), the same for any world.

    A mask has 0 or the class.
    """

    def __init__(
        self,
        data: TrainingData,
        params: "TrainParams",
        reporter: Reporter,
        device: torch.device,
    ) -> None:
        self._data, self._params, self._device = data, params, device
        self._place = reporter.rank, reporter.world_size
        self._mean = _channels(data.mean, device)
        self._std = _channels(data.std, device)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Shuffled and augmented by (seed, epoch), from batch `first`; whole ones."""
        return self._load(self._data.train, epoch, first, train=True)

    def validation(self) -> Iterator[Batch]:
        """All images in order; the last batch may be smaller."""
        return self._load(self._data.validation, 0, 0, train=False)

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) of what `train` and `validation` gave."""
        scaled = (image * self._std + self._mean) * 255
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def _load(
        self, samples: Samples, epoch: int, first: int, train: bool
    ) -> Iterator[Batch]:
        sampler = GlobalBatchSampler(
            len(samples),
            self._params.batch_size,
            self._params.seed,
            *self._place,
            shuffle=train,
            drop_last=train,
        )
        sampler.set_epoch(epoch, first)
        loader: DataLoader[dict[str, Tensor]] = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=self._params.loader_workers,
            collate_fn=getattr(samples, "collate", None),
            pin_memory=self._device.type == "cuda",
        )
        for batch in loader:
            if len(batch["image"]):  # else fewer images than ranks are left
                yield self._ready(batch)

    def _ready(self, batch: dict[str, Tensor]) -> Batch:
        image = batch["image"].to(self._device, non_blocking=True)
        mask = batch["mask"].to(self._device, non_blocking=True)
        return (image.float() / 255 - self._mean) / self._std, mask.unsqueeze(1).float()


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
