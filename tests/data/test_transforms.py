"""Declared transforms: checked by name, independent of each other, same every time."""

import pickle
from collections import Counter

import numpy as np
import pytest

from kmunet.config import TransformParams
from kmunet.data.transforms import build_transform
from kmunet.errors import ConfigError

FLIPS = [
    {"name": "RandomRotate90", "args": {"p": 0.5}},
    {"name": "HorizontalFlip", "args": {"p": 0.5}},
    {"name": "VerticalFlip", "args": {"p": 0.5}},
]
IMAGE = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
MASK = np.zeros((4, 4), np.uint8)


def test_nothing_declared_is_no_transform():
    assert build_transform([], seed=0) is None


def test_sections_of_params_are_taken_as_they_are():
    declared = [TransformParams(name="HorizontalFlip", args={"p": 1.0})]
    image, _ = build_transform(declared, seed=0)(IMAGE, MASK, epoch=0, image_id="a")
    np.testing.assert_array_equal(image, IMAGE[:, ::-1])


def test_transforms_draw_independently():
    """With one seed for each transform, all flips and turns would fire together."""
    transform = build_transform(FLIPS, seed=1)
    seen = Counter(
        transform(IMAGE, MASK, epoch=n, image_id="a")[0].tobytes() for n in range(1200)
    )
    assert len(seen) == 8  # the whole group of the square
    # Turns by 0 or 180 degrees: 6 in 8, spread over 4 by the flips; so 3 and 1 in 16
    counts = sorted(seen.values())
    assert all(abs(count - 75) < 40 for count in counts[:4])
    assert all(abs(count - 225) < 65 for count in counts[4:])


def test_the_stream_is_the_same_in_another_process():
    transform = build_transform(FLIPS, seed=1)
    copy = pickle.loads(pickle.dumps(transform))
    for epoch in range(20):
        a = transform(IMAGE, MASK, epoch=epoch, image_id="x")[0]
        b = copy(IMAGE, MASK, epoch=epoch, image_id="x")[0]
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", [{"seed": 2}, {"image_id": "b"}])
def test_seed_and_image_id_each_matter(change):
    def stream(seed=1, image_id="a"):
        transform = build_transform(FLIPS, seed)
        return [
            transform(IMAGE, MASK, epoch=n, image_id=image_id)[0].tobytes()
            for n in range(20)
        ]

    assert stream() != stream(**change)
    assert stream() == stream()


@pytest.mark.parametrize("name", ["Flipp", "Compose", "DualTransform", "np", "__doc__"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ConfigError, match=rf"augment\.1\.name: '{name}' is no image"):
        build_transform([FLIPS[0], {"name": name, "args": {}}], seed=0)


@pytest.mark.parametrize("args", [{"pp": 0.5}, {"p": 1.5}, {"p": "often"}])
def test_bad_arguments_are_refused(args):
    with pytest.raises(ConfigError, match=r"augment\.0\.args: HorizontalFlip: "):
        build_transform([{"name": "HorizontalFlip", "args": args}], seed=0)


@pytest.mark.parametrize(
    ("name", "args", "fault"),
    [
        ("RandomCrop", {"height": 8, "width": 8}, r"came out as \(8, 8, 3\)"),
        ("RandomCrop", {"height": 99, "width": 99, "p": 0.01}, "RandomCrop: "),
        ("Normalize", {}, "came out as float32"),
    ],
)
def test_what_changes_size_or_type_is_found_before_training(name, args, fault):
    transform = build_transform([FLIPS[0], {"name": name, "args": args}], seed=0)
    with pytest.raises(ConfigError, match=rf"augment\.1.*{fault}"):
        transform.check(16)


def test_a_changed_size_is_found_at_the_first_item():
    crop = {"name": "RandomCrop", "args": {"height": 2, "width": 2}}
    transform = build_transform([crop], seed=0)
    with pytest.raises(ConfigError, match="changes the size"):
        transform(IMAGE, MASK, epoch=0, image_id="a")


def test_good_ones_pass_the_check():
    names = ["ElasticTransform", "GaussNoise", "CLAHE", "Affine", "CoarseDropout"]
    declared = [{"name": name, "args": {}} for name in names]
    transform = build_transform(declared, seed=0)
    transform.check(64)
    image = np.full((64, 64, 3), 90, np.uint8)
    a = transform(image, np.zeros((64, 64), np.uint8), epoch=0, image_id="a")
    b = transform(image, np.zeros((64, 64), np.uint8), epoch=0, image_id="a")
    np.testing.assert_array_equal(a[0], b[0])
