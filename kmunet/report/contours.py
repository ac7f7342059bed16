"""An image beside itself with outlines: truth green, prediction magenta, as a PNG.

Of several classes, truth and prediction apart, each class in a colour of its own.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GREEN = (0, 200, 83)
MAGENTA = (255, 0, 170)
CLASSES = (  # Okabe & Ito: told apart by the colour-blind too
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167),
)  # fmt: skip
PANEL = 384  # pixels, the longer side that a smaller image is brought to
LARGEST = 1024  # pixels, the same for a larger image
_STRIP = 28  # pixels, the line of text above the panels
_GAP = 6

Pixels = NDArray[np.uint8]
Line = tuple[NDArray[np.bool_], tuple[int, int, int], int]


def overlay(image: Pixels, truth: Pixels, pred: Pixels, classes: int = 1) -> Pixels:
    """Image | the same with outlines; uint8 RGB (H, 2 W + gap, 3), at a middle size.

    image: uint8 (H, W, 3); truth, pred: uint8 (H, W), 0 or the class. Truth is drawn
    wide and the prediction narrow above it, so that both are seen where they agree. Of
    several classes: image | truth | prediction, (H, 3 W + 2 gaps, 3).
    """
    longer = max(image.shape[:2])
    scale = min(max(1.0, PANEL / longer), LARGEST / longer)
    plain = _scale(image, scale, cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    gap = np.full((plain.shape[0], _GAP, 3), 255, np.uint8)
    if classes > 1:
        both = (
            _outlined(plain.copy(), labels, classes, scale) for labels in (truth, pred)
        )
        return np.hstack([plain, *(part for drawn in both for part in (gap, drawn))])
    drawn = plain.copy()
    _outline(drawn, truth > 0, scale, GREEN, 6)
    _outline(drawn, pred > 0, scale, MAGENTA, 2)
    return np.hstack([plain, gap, drawn])


def class_colour(value: int) -> tuple[int, int, int]:
    """RGB of class 1, 2, ...; from the eighth on they come again."""
    return CLASSES[(value - 1) % len(CLASSES)]


def _outlined(drawn: Pixels, labels: Pixels, classes: int, scale: float) -> Pixels:
    for value in range(1, classes + 1):
        _outline(drawn, labels == value, scale, class_colour(value), 3)
    return drawn


def _outline(
    drawn: Pixels,
    mask: NDArray[np.bool_],
    scale: float,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    big = _scale(mask.astype(np.uint8), scale, cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(big, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, colour, width)


def outlined(image: Pixels, lines: Sequence[Line], side: int) -> Pixels:
    """uint8 RGB whose longer side is `side`, with outlines drawn in their order.

    image: uint8 (H, W, 3); a line: a bool mask (H, W), its colour and width in pixels.
    """
    scale = side / max(image.shape[:2])
    drawn = _scale(image, scale, cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    drawn = drawn.copy()
    for mask, colour, width in lines:
        _outline(drawn, mask, scale, colour, width)
    return drawn


def write_overlay(
    path: Path | BinaryIO,
    image: Pixels,
    truth: Pixels,
    pred: Pixels,
    row: Mapping[str, Any],
    classes: int = 1,
) -> None:
    """Save an overlay with the id and IoU of `row` above it. Same input, same bytes."""
    panels = overlay(image, truth, pred, classes)
    canvas = Image.new("RGB", (panels.shape[1], panels.shape[0] + _STRIP), "white")
    canvas.paste(Image.fromarray(panels), (0, _STRIP))
    draw = ImageDraw.Draw(canvas)
    score = f"IoU {row['iou']:.3f}"
    edge = canvas.width - draw.textlength(score, font()) - 2
    draw.text((edge, 4), score, "black", font())
    draw.text((2, 4), fit(str(row["id"]), edge - 12, draw), "black", font())
    canvas.save(path, format="PNG")


def _scale(array: Pixels, scale: float, interpolation: int) -> Pixels:
    if scale == 1.0:
        return np.ascontiguousarray(array)
    height, width = (max(1, round(side * scale)) for side in array.shape[:2])
    return np.asarray(
        cv2.resize(array, (width, height), interpolation=interpolation), np.uint8
    )


def fit(text: str, width: float, draw: ImageDraw.ImageDraw) -> str:
    """As much of the end of `text` as fits: the end of an id tells images apart."""
    if draw.textlength(text, font()) <= width:
        return text
    while text and draw.textlength("…" + text, font()) > width:
        text = text[1:]
    return "…" + text


@cache
def font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, shipped with matplotlib, so the same on every machine."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", 17)
