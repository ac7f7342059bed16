"""Batches on the device: this rank's share of each global batch, scaled."""

from collections.abc import Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kmunet.data.sampler import GlobalBatchSampler
from kmunet.training.reporter import Reporter

if TYPE_CHECKING:
    from kmunet.config import TrainParams

Batch = tuple[Tensor, Tensor]
_Loader = DataLoader[dict[str, Tensor]]


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
        self._loaders: list[_Loader] = []

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Shuffled and augmented by (seed, epoch), from batch `first`; whole ones."""
        return self._load(self._training, epoch, first)

    def validation(self) -> Iterator[Batch]:
        """All images in order; the last batch may be smaller."""
        return self._load(self._validation, 0, 0)

    def close(self) -> None:
        """End the processes that load; when collected after an error, each takes 5 s.

        torch has nothing public for it. How they end changes no result: it raises for
        one that does not end well, and stops the others all the same.
        """
        for loader in self._loaders:
            if (loaded := loader._iterator) is None:
                continue
            with suppress(RuntimeError):
                loaded._shutdown_workers()  # type: ignore[attr-defined]
            for worker in loaded._workers:  # type: ignore[attr-defined]
                worker.join(5)

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) of what `train` and `validation` gave."""
        scaled = (image * self._std + self._mean) * 255
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    # One loader a split for all epochs: workers take half a second to start.
    @cached_property
    def _training(self) -> _Loader:
        return self._loader(self._data.train, train=True)

    @cached_property
    def _validation(self) -> _Loader:
        return self._loader(self._data.validation, train=False)

    def _loader(self, samples: Samples, train: bool) -> _Loader:
        # As many at once as in training: its memory is what `accumulate` was set for.
        whole, parts = self._params.batch_size, self._params.accumulate
        sampler = GlobalBatchSampler(
            len(samples),
            whole if train else whole // parts,
            self._params.seed,
            *self._place,
            shuffle=train,
            drop_last=train,
            parts=parts if train else 1,
        )
        loader: _Loader = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=self._params.loader_workers,
            collate_fn=getattr(samples, "collate", None),
            pin_memory=self._device.type == "cuda",
            persistent_workers=self._params.loader_workers > 0,
            # Else it draws from torch's own, as often as workers are started.
            generator=torch.Generator(),
        )
        self._loaders.append(loader)
        return loader

    def _load(self, loader: _Loader, epoch: int, first: int) -> Iterator[Batch]:
        assert isinstance(loader.batch_sampler, GlobalBatchSampler)
        loader.batch_sampler.set_epoch(epoch, first)
        loaded = iter(loader)  # not in a thread: this forks
        # A rank's batch is empty where fewer images than ranks are left.
        ready = (self._ready(batch) for batch in loaded if len(batch["image"]))
        if self._device.type != "cuda":
            return ready
        return ahead(ready, torch.cuda.current_stream(self._device))

    def _ready(self, batch: dict[str, Tensor]) -> Batch:
        image = batch["image"].to(self._device, non_blocking=True)
        mask = batch["mask"].to(self._device, non_blocking=True)
        return (image.float() / 255 - self._mean) / self._std, mask.unsqueeze(1).float()


def ahead(
    batches: Iterator[Batch], stream: torch.cuda.Stream | None
) -> Iterator[Batch]:
    """A thread gets the next of `batches` while the caller works on one.

    `stream` is the caller's: copies on it are done before the caller's kernels use
    them, and their memory is not used again before those are done.
    """

    def following() -> Batch | None:
        with torch.cuda.stream(stream):  # a thread's own is the default one
            return next(batches, None)

    with ThreadPoolExecutor(1, "batches") as thread:
        coming = thread.submit(following)
        while (batch := coming.result()) is not None:
            coming = thread.submit(following)
            yield batch


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
