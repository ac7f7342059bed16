"""The presets that params.yaml ships: valid, aligned with the mask, reproducible."""

import multiprocessing
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from kmunet.config import load_params
from kmunet.data.transforms import build_transform

PRESETS = load_params(Path(__file__).parents[2] / "params.yaml").presets
NAMES = sorted(set(PRESETS) - {"none"})
GEOMETRY = {"D4", "Affine", "ThinPlateSpline", "RandomRotate90", "HorizontalFlip",
            "VerticalFlip"}  # fmt: skip


def lesion(size=96):
    """A lopsided blob, as a mask."""
    mask = np.zeros((size, size), np.uint8)
    cv2.ellipse(mask, (size // 2, size // 3), (size // 4, size // 7), 30, 0, 360, 1, -1)
    cv2.circle(mask, (size // 3, size // 2), size // 9, 1, -1)
    return mask


def texture(size=96):
    rng = np.random.default_rng(4)
    noise = rng.integers(40, 216, (size, size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def build(name, seed=3):
    return build_transform(PRESETS[name], seed, f"presets.{name}")


def test_one_preset_a_modality():
    assert {"paper", "dermoscopy", "endoscopy", "ultrasound", "histology"} <= set(NAMES)
    assert build("none") is None


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_the_check_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (64, 256):
            build(name).check(size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 255, None])
def test_masks_stay_binary_on_any_image(name, value):
    """Black and white images too: an estimate of stains has nothing to go by there."""
    image = texture() if value is None else np.full((96, 96, 3), value, np.uint8)
    transform = build(name)
    for epoch in range(25):
        done, mask = transform(image, lesion(), epoch=epoch, image_id="a")
        assert (done.dtype, mask.dtype) == (np.uint8, np.uint8)
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_moves_with_the_image(name):
    """An image that is its mask's shape stays so: they differ at the edge alone."""
    steps = [step for step in PRESETS[name] if step.name in GEOMETRY]
    transform = build_transform(steps, seed=3)
    mask = lesion()
    image = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)
    moved = 0
    for epoch in range(40):
        done, new = transform(image, mask, epoch=epoch, image_id="a")
        drawn = (done[:, :, 0] > 127).astype(np.uint8)
        inside = cv2.erode(new, np.ones((3, 3), np.uint8), borderValue=1)
        around = cv2.dilate(new, np.ones((3, 3), np.uint8))
        assert (inside <= drawn).all()
        assert (drawn <= around).all()
        moved += not np.array_equal(new, mask)
    assert moved > 10


@pytest.mark.parametrize("name", NAMES)
def test_other_steps_leave_the_mask(name):
    steps = [step for step in PRESETS[name] if step.name not in GEOMETRY]
    transform = build_transform(steps, seed=3)
    for epoch in range(30 if transform else 0):
        _, mask = transform(texture(), lesion(), epoch=epoch, image_id="a")
        np.testing.assert_array_equal(mask, lesion())


def sample(name, epoch, image_id):
    done = build(name)(texture(), lesion(), epoch=epoch, image_id=image_id)
    return b"".join(part.tobytes() for part in done)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_sample_in_any_order(name):
    """One object in two orders, among other images, and a fresh object each time."""
    keys = [(epoch, image_id) for epoch in range(6) for image_id in ("a", "b (1)")]
    transform = build(name)

    def draw(epoch, image_id):
        done = transform(texture(), lesion(), epoch=epoch, image_id=image_id)
        return b"".join(part.tobytes() for part in done)

    forward = {key: draw(*key) for key in keys}
    backward = {key: draw(*key) for key in reversed(keys)}
    assert forward == backward == {key: sample(name, *key) for key in keys}
    fewest = 5 if name == "paper" else 11  # of 12; 8 positions of the square
    assert len(set(forward.values())) >= fewest


def test_the_same_sample_in_another_process():
    keys = [(name, epoch, "a") for name in NAMES for epoch in range(4)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.starmap(sample, keys) == [sample(*key) for key in keys]
