"""The synthetic set: the same for a seed, varied, and neither empty nor trivial."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from kmunet.data.synthetic import draw, write_synthetic


@pytest.fixture(scope="module")
def drawn():
    return [draw(64, 7, number) for number in range(200)]


def test_files_are_pairs_of_grey_images_and_masks(tmp_path):
    write_synthetic(tmp_path / "set", images=5, size=40, seed=3)
    images = sorted((tmp_path / "set" / "images").iterdir())
    masks = sorted((tmp_path / "set" / "masks").iterdir())
    assert [p.name for p in images] == [p.name for p in masks]
    assert len(images) == 5
    for path in masks:
        with Image.open(path) as mask:
            assert mask.size == (40, 40)
            assert set(np.unique(np.asarray(mask))) <= {0, 255}


def test_a_seed_gives_the_same_bytes_whatever_the_number(tmp_path):
    write_synthetic(tmp_path / "a", images=6, size=40, seed=3)
    write_synthetic(tmp_path / "b", images=3, size=40, seed=3)
    write_synthetic(tmp_path / "c", images=3, size=40, seed=4)

    def image(folder):
        return (tmp_path / folder / "images" / "synthetic_0002.png").read_bytes()

    assert image("a") == image("b") != image("c")


def test_a_smaller_set_replaces_a_larger(tmp_path):
    write_synthetic(tmp_path / "a", images=6, size=40, seed=3)
    write_synthetic(tmp_path / "a", images=2, size=40, seed=3)
    assert len(list((tmp_path / "a" / "images").iterdir())) == 2


def test_lesions_vary_in_number_and_size(drawn):
    counts = [ndimage.label(mask)[1] for _, mask in drawn]
    assert {0, 1, 2, 3} <= set(counts)
    empty = counts.count(0) / len(counts)
    assert 0.06 < empty < 0.19  # 12 % expected
    shares = [mask.mean() for _, mask in drawn if mask.any()]
    assert min(shares) < 0.02
    assert max(shares) > 0.2


def test_lesions_are_darker_but_no_threshold_finds_them(drawn):
    """Best single grey level over all images: well above chance, well below good."""
    images = np.stack([image for image, _ in drawn])
    masks = np.stack([mask for _, mask in drawn]) > 0
    assert images[masks].mean() < 0.7 * images[~masks].mean()
    scores = []
    for level in range(10, 120, 5):
        found = images < level
        scores.append((found & masks).sum() / (found | masks).sum())
    assert 0.15 < max(scores) < 0.6


def test_images_use_the_grey_scale(drawn):
    images = np.stack([image for image, _ in drawn])
    assert 60 < images.mean() < 140
    assert (images == 255).mean() < 0.02
    assert (images == 0).mean() < 0.02


def test_speckle_is_multiplicative(drawn):
    """Its contrast (std over mean) in small patches is about constant: Goodman 1975."""
    ratios = []
    for image, mask in drawn[:60]:
        patch = image[4:16, 4:16].astype(float)
        if not mask[4:16, 4:16].any():
            ratios.append(patch.std() / patch.mean())
    assert 0.15 < np.median(ratios) < 0.52  # 0.52: Rayleigh without any averaging
