"""Overlays: what is drawn where, and the same bytes each time."""

import numpy as np
import pytest
from PIL import Image

from kmunet.report.contours import GREEN, MAGENTA, PANEL, overlay, write_overlay


def square(size: int, start: int, stop: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:stop, start:stop] = True
    return mask


def has(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (pixels == np.array(colour)).all(axis=-1)


GREY = np.full((64, 64, 3), 90, np.uint8)
NONE = square(64, 0, 0)


def test_small_images_are_enlarged_and_shown_twice():
    panels = overlay(GREY, NONE, NONE)
    assert panels.shape == (PANEL, 2 * PANEL + 6, 3)
    np.testing.assert_array_equal(panels[:, :PANEL], panels[:, -PANEL:])


def test_large_and_oblong_images_keep_their_shape():
    image = np.zeros((400, 700, 3), np.uint8)
    none = np.zeros((400, 700), bool)
    assert overlay(image, none, none).shape == (400, 1406, 3)
    assert overlay(image[:50, :100], none[:50, :100], none[:50, :100]).shape == (
        192, 774, 3,
    )  # fmt: skip
    huge = np.full((1536, 2048, 3), 7, np.uint8)
    whole = np.ones((1536, 2048), bool)
    panels = overlay(huge, whole, whole)
    assert panels.shape == (768, 2 * 1024 + 6, 3)
    assert (panels[:, :1024] == 7).all()


def test_outlines_follow_their_masks_in_their_colours():
    panels = overlay(GREY, square(64, 4, 20), square(64, 40, 60))
    right = panels[:, -PANEL:]
    for colour, (start, stop) in ((GREEN, (4, 20)), (MAGENTA, (40, 60))):
        rows, columns = np.nonzero(has(right, colour))
        for places in (rows, columns):
            assert places.min() == pytest.approx(start * 6, abs=4)
            assert places.max() == pytest.approx(stop * 6, abs=4)
    assert not has(panels[:, :PANEL], GREEN).any()
    assert (right[72, 72] == 90).all(), "the inside stays visible"


def test_equal_masks_show_both_colours():
    mask = square(64, 10, 40)
    right = overlay(GREY, mask, mask)[:, -PANEL:]
    assert has(right, GREEN).any()
    assert has(right, MAGENTA).any()


def test_a_hole_is_outlined():
    ring = square(64, 10, 50) & ~square(64, 25, 35)
    right = overlay(GREY, ring, NONE)[:, -PANEL:]
    assert has(right[130:230, 130:230], GREEN).any()


def test_the_arguments_stay_as_they_were():
    large = np.full((PANEL, PANEL, 3), 90, np.uint8)
    overlay(large, square(PANEL, 3, 99), square(PANEL, 9, 200))
    assert (large == 90).all()


def test_the_file_carries_a_line_of_text_and_has_the_same_bytes(tmp_path):
    row = {"id": "benign (1) " * 20, "iou": 0.5}
    for name in ("a.png", "b.png"):
        write_overlay(tmp_path / name, GREY, square(64, 4, 20), NONE, row)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert image.shape == (PANEL + 28, 2 * PANEL + 6, 3)
    assert (image[:28] < 100).any(), "text"
    assert (image[:28, 0] == 255).all(), "that fits"
