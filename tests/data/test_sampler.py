"""Every world size sees the same global batches."""

from itertools import chain, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmunet.data.sampler import GlobalBatchSampler, shares_of
from kmunet.errors import ConfigError


@given(
    length=st.integers(0, 70),
    share=st.integers(1, 6),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_ranks_together_are_one_worker(length, share, world_size, epoch, shuffle):
    def batches(rank, size):
        sampler = GlobalBatchSampler(
            length, share * world_size, 5, rank, size, shuffle, drop_last=False
        )
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert len(found) == len(sampler)
        return found

    whole = batches(0, 1)
    ranks = [batches(rank, world_size) for rank in range(world_size)]
    for batch, *slices in zip(whole, *ranks, strict=True):
        assert list(chain(*slices)) == batch
        lengths = [len(part) for part in slices]
        assert max(lengths) - min(lengths) <= 1
    assert sorted(chain(*whole)) == [(epoch, n) for n in range(length)]


@given(share=st.integers(1, 4), parts=st.integers(1, 4), world_size=st.integers(1, 5))
def test_each_part_has_the_same_images_for_any_number_of_ranks(
    share, parts, world_size
):
    count = share * parts * world_size + share - 1

    def batches(rank, ranks):
        sizes = [len(places) for places in shares_of(count, parts, rank, ranks)]
        assert min(sizes) >= 1
        sampler = GlobalBatchSampler(count, count, 5, rank, ranks, parts=parts)
        (batch,) = sampler
        assert len(batch) == sum(sizes)
        left = iter(batch)
        return [list(islice(left, size)) for size in sizes]

    ranks = [batches(rank, world_size) for rank in range(world_size)]
    together = [list(chain(*slices)) for slices in zip(*ranks, strict=True)]
    assert together == batches(0, 1)


def test_drop_last_keeps_whole_batches():
    sampler = GlobalBatchSampler(21, 4, drop_last=True)
    assert [len(batch) for batch in sampler] == [4] * 5
    assert len(sampler) == 5


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        sampler = GlobalBatchSampler(50, 50, seed)
        sampler.set_epoch(epoch)
        return [position for _, position in next(iter(sampler))]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert sorted(order(1, 1)) == list(range(50))


def test_without_shuffle_the_order_stays():
    sampler = GlobalBatchSampler(5, 2, shuffle=False)
    sampler.set_epoch(2)
    assert list(sampler) == [[(2, 0), (2, 1)], [(2, 2), (2, 3)], [(2, 4)]]


def test_impossible_shares_are_refused():
    with pytest.raises(ConfigError, match=r"train\.batch_size: 2.*3 workers"):
        GlobalBatchSampler(20, 2, world_size=3)
    with pytest.raises(ConfigError, match=r"5 .* 3 workers with accumulate 2; make"):
        GlobalBatchSampler(20, 5, world_size=3, parts=2)
    with pytest.raises(ConfigError, match="more than the 5 images"):
        GlobalBatchSampler(5, 8, drop_last=True)
    with pytest.raises(ValueError, match="rank 2"):
        GlobalBatchSampler(20, 8, rank=2, world_size=2)
