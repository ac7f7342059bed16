"""Batches that do not depend on the number of workers: each takes a slice of them."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from torch.utils.data import Sampler

from kmunet.errors import ConfigError


class GlobalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler: rank r's slice of every part of every global batch.

    Every world size sees the same global batches in the same `parts`; the order depends
    on (seed, epoch) alone. Yields list[(epoch, position)], one part's after another's.
    Without `drop_last`, the last one of m samples is an empty list for some ranks where
    m < world_size: `SegmentationDataset.collate` takes that.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        parts: int = 1,
    ) -> None:
        if batch_size < world_size * parts:
            raise ConfigError(
                f"train.batch_size: {batch_size} cannot be shared by {world_size} "
                f"workers with accumulate {parts}; make it larger"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not below world_size {world_size}")
        if drop_last and length < batch_size:
            raise ConfigError(
                f"train.batch_size: {batch_size} is more than the {length} images "
                "there are; lower it"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.parts = parts
        self.epoch = 0
        self.first = 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Epochs differ in order and in augmentation; go on at batch `first`."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return whole + bool(rest and not self.drop_last) - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, numbers = self.epoch, range(self.first, self.first + len(self))
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for number in numbers:
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            shares = shares_of(len(batch), self.parts, self.rank, self.world_size)
            yield [(epoch, int(batch[place])) for share in shares for place in share]


def shares_of(count: int, parts: int, rank: int, world_size: int) -> list[range]:
    """A rank's places in each of the parts of a batch of `count`."""
    return [_cut(part, world_size)[rank] for part in _cut(range(count), parts)]


def _cut(places: range, parts: int) -> list[range]:
    """Consecutive parts, as even as can be."""
    ends = [number * len(places) // parts for number in range(parts + 1)]
    return [places[first:last] for first, last in pairwise(ends)]
