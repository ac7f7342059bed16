"""Duplicates of every kind on drawn images: what is found, what not, what clusters."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from kmunet.data.alike import SIDE, find_alike, thumbnail
from kmunet.data.groups import (
    Link,
    clusters,
    find_conflicts,
    find_links,
    name_groups,
    perceptual_hashes,
)
from kmunet.data.record import Record
from kmunet.data.synthetic import draw


def texture(seed, size=256):
    """A grey image with layers that all share, and speckle of its own."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    speckle = gaussian_filter(noise, 2.5)
    layers = 40 * np.cos(np.arange(size) / 20)[:, None]
    grey = 110 + layers + 250 * speckle
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def record(name, image, category=None, mask=b""):
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    both = hashlib.sha256(image.tobytes() + mask).hexdigest()
    return Record(name, category, *image.shape[:2], 0.1, digest, both)


def links_of(images, names=None):
    names = names or [f"i{n}" for n in range(len(images))]
    records = [record(name, image) for name, image in zip(names, images, strict=True)]
    return find_links(records, np.stack([thumbnail(image) for image in images]))


def shifted(image):
    return np.roll(image, (6, -10), axis=(0, 1))


def brighter(image):
    return np.clip(image * 1.2 + 12, 0, 255).astype(np.uint8)


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def marked(image):
    """Callipers and text, as one copy of a pair in BUSI has them."""
    image = image.copy()
    image[100:103, 60:180] = 255
    image[230:250, 20:90] = 250
    return image


def cropped(image):
    return image[:244, 8:]


def halved(image):
    return image[::2, ::2]


CHANGES = [shifted, brighter, noisy, marked, cropped, halved]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_view_is_found_after(change):
    images = [texture(n) for n in range(12)]
    (link,) = links_of([*images, change(images[3])])
    assert (link.a, link.b) == (3, 12)
    assert link.kind in ("hash", "near")
    assert link.score > 0.25


def test_a_shift_is_measured_and_a_hash_misses_it():
    images = [texture(n) for n in range(4)]
    (link,) = links_of([*images, shifted(images[1])])
    assert link.kind == "near"
    assert link.shift == (-3, 5)  # at half the size


def test_layers_in_common_are_no_duplicates():
    assert links_of([texture(n) for n in range(40)]) == []


def test_synthetic_lesions_are_all_different():
    drawn = [draw(96, 7, n)[0] for n in range(120)]
    images = [np.repeat(grey[:, :, None], 3, axis=2) for grey in drawn]
    assert links_of(images) == []


def test_flat_and_few_images_do_no_harm():
    black = np.zeros((20, 20, 3), np.uint8)
    assert links_of([black]) == []
    assert find_alike(np.zeros((0, SIDE, SIDE), np.uint8)) == []
    white = black + np.uint8(255)
    assert links_of([black, white, texture(0)]) == []


def test_copies_are_listed_one_less_than_they_are():
    images = [texture(0)] * 4 + [texture(1)]
    found = links_of(images)
    assert [(link.a, link.b, link.kind) for link in found] == [
        (0, 1, "exact"),
        (0, 2, "exact"),
        (0, 3, "exact"),
    ]


def test_isic_numbers_are_shared_between_years():
    images = [texture(n) for n in range(3)]
    names = ["2017/ISIC_0000010", "ISIC_0000010_downsampled", "ISIC_0000011"]
    (link,) = links_of(images, names)
    assert (link.a, link.b, link.kind) == (0, 1, "id")


def test_hashes_are_those_of_imagehash():
    import imagehash
    from PIL import Image

    small = thumbnail(texture(5))
    expected = int(str(imagehash.phash(Image.fromarray(small))), 16)
    assert perceptual_hashes(small[None]).tolist() == [expected]


edges = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=20)
labels = st.lists(st.sampled_from([None, "p", "q", "r"]), min_size=15, max_size=15)


@given(edges, labels, st.randoms())
@settings(max_examples=200, deadline=None)
def test_clusters_are_the_connected_components(edges, labels, random):
    links = [Link(min(e), max(e), "near", 1.0) for e in edges if e[0] != e[1]]
    own = [[label] if label else [] for label in labels]
    found = clusters(15, links, own)
    assert sorted(row for rows in found for row in rows) == list(range(15))
    place = {row: n for n, rows in enumerate(found) for row in rows}
    assert all(place[link.a] == place[link.b] for link in links)
    # As many as a flood fill over the same edges finds.
    near = np.eye(15, dtype=bool)
    for link in links:
        near[link.a, link.b] = near[link.b, link.a] = True
    for a in range(15):
        for b in range(15):
            near[a, b] |= labels[a] is not None and labels[a] == labels[b]
    reach = np.linalg.matrix_power(near.astype(float), 15) > 0
    assert len(found) == len({tuple(row) for row in reach})
    random.shuffle(links)
    assert clusters(15, links, own) == found


def test_known_groups_and_duplicates_chain():
    records = [record(f"r{n}", texture(n)) for n in range(6)]
    links = [Link(1, 2, "near", 0.9), Link(3, 4, "hash", 0.9)]
    names = name_groups(records, links, ["p1", "p1", "p2", None, None, None])
    assert names == ["p1 + p2"] * 3 + ["like r3"] * 2 + [None]


def test_conflicts_are_other_masks_or_classes():
    image = texture(0)
    records = [
        record("a", image, "benign", b"1"),
        record("b", image, "malignant", b"1"),
        record("c", image, "benign", b"2"),
        record("d", image, "benign", b"1"),
    ]
    masks = np.zeros((4, SIDE, SIDE), np.uint8)
    masks[:, 10:40, 10:40] = 1
    masks[2, 10:40, 10:70] = 1
    links = [Link(0, n, "exact", 1.0) for n in (1, 2, 3)]
    found = find_conflicts(records, links, masks)
    assert [(c.link.b, c.classes, c.overlap) for c in found] == [
        (1, True, 1.0),
        (2, False, 0.5),
    ]


def test_a_shift_between_views_is_no_conflict_of_masks():
    records = [record("a", texture(0)), record("b", texture(1))]
    masks = np.zeros((2, SIDE, SIDE), np.uint8)
    masks[0, 10:20, 10:20] = 1
    masks[1, 10:20, 22:32] = 1
    link = Link(0, 1, "near", 0.9, shift=(0, -12))
    assert find_conflicts(records, [link], masks) == []
    assert len(find_conflicts(records, [replace(link, shift=(0, 0))], masks)) == 1
