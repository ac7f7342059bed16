"""Items, workers and the augmentation stream."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kmunet.data.dataset import SegmentationDataset
from kmunet.data.sampler import GlobalBatchSampler
from kmunet.data.transforms import build_transform

AUGMENT = [
    {"name": "RandomRotate90", "args": {"p": 0.5}},
    {"name": "HorizontalFlip", "args": {"p": 0.5}},
    {"name": "RandomBrightnessContrast", "args": {"p": 0.5}},
]


@pytest.fixture
def augmented(packed):
    transform = build_transform(AUGMENT, seed=11)
    return SegmentationDataset(packed, packed.indices("train"), transform)


def epoch_of(dataset, sampler, **options):
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=dataset.collate, **options
    )
    return list(loader)


def test_an_item_is_its_row(packed):
    rows = packed.indices("validation")
    dataset = SegmentationDataset(packed, rows)
    item = dataset[0, 2]
    assert len(dataset) == len(rows)
    assert item["index"] == rows[2]
    assert item["image"].shape == (3, 32, 32)
    assert item["image"].dtype == item["mask"].dtype == torch.uint8
    image = packed.images[rows[2]].transpose(2, 0, 1)
    np.testing.assert_array_equal(item["image"], image)
    np.testing.assert_array_equal(item["mask"], packed.masks[rows[2]])
    assert (dataset[2]["image"] == item["image"]).all()


def test_the_stream_depends_on_epoch_and_image_alone(packed, augmented):
    item = augmented[3, 5]["image"]
    for position in (1, 7, 5, 2):
        augmented[9, position]
    assert (augmented[3, 5]["image"] == item).all()
    backwards = packed.indices("train")[::-1].copy()
    other = SegmentationDataset(packed, backwards, build_transform(AUGMENT, seed=11))
    assert (other[3, len(other) - 1 - 5]["image"] == item).all()
    epochs = [augmented[epoch, 5]["image"] for epoch in range(8)]
    assert len({tensor.numpy().tobytes() for tensor in epochs}) > 3


def test_image_and_mask_turn_together(packed):
    turns = build_transform(AUGMENT[:2], seed=0)
    rows = np.array([r for r in packed.indices("train") if packed.masks[r].any()])
    for position in range(len(rows)):
        image = np.repeat(packed.masks[rows[position]][:, :, None], 3, axis=2)
        turned, mask = turns(
            image, image[:, :, 0].copy(), epoch=1, image_id=str(position)
        )
        np.testing.assert_array_equal(turned[:, :, 0], mask)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_what_the_main_process_gives(augmented, start):
    sampler = GlobalBatchSampler(len(augmented), batch_size=4, seed=2)
    sampler.set_epoch(3)
    alone = epoch_of(augmented, sampler)
    shared = epoch_of(augmented, sampler, num_workers=2, multiprocessing_context=start)
    assert len(alone) == len(shared)
    for a, b in zip(alone, shared, strict=True):
        for key in ("image", "mask", "index"):
            assert torch.equal(a[key], b[key])


def test_the_world_size_changes_no_sample(augmented):
    whole = epoch_of(augmented, GlobalBatchSampler(len(augmented), 4, seed=2))
    parts = [
        epoch_of(augmented, GlobalBatchSampler(len(augmented), 4, 2, rank, 2))
        for rank in range(2)
    ]
    for batch, *slices in zip(whole, *parts, strict=True):
        for key in ("image", "index"):
            assert torch.equal(batch[key], torch.cat([s[key] for s in slices]))


def test_pickling_takes_no_pixels_along(augmented):
    assert len(pickle.dumps(augmented)) < 3000


def test_no_items_collate_to_nothing(augmented):
    batch = augmented.collate([])
    assert batch["image"].shape == (0, 3, 32, 32)
    assert batch["mask"].shape == (0, 32, 32)
    assert batch["index"].dtype == torch.int64
