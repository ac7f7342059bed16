"""A sheet of test images: one a row, plain, then with each model's outline.

Of several classes, the first picture has the truth, each class in its own colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kmunet.report.contours import (
    GREEN,
    MAGENTA,
    Line,
    class_colour,
    fit,
    font,
    outlined,
)

SIDE = 300  # pixels of a picture's longer side
_LINE, _EDGE, _LEGEND = 26, 6, 30

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class SheetRow:
    """A test image (H, W, 3) with its truth, and each model's labels and IoU.

    Truth and labels are uint8 (H, W), 0 or the class.
    """

    caption: str
    image: Pixels
    truth: Pixels
    preds: Sequence[Pixels]
    ious: Sequence[float]


def write_comparison_sheet(
    path: Path,
    models: Sequence[str],
    rows: Sequence[SheetRow],
    classes: Sequence[str] = ("lesion",),
) -> None:
    """Write the sheet as a PNG. Same input, same bytes."""
    cell = SIDE + _EDGE
    heights = [_LINE + row_height(row) + _EDGE for row in rows]
    size = (cell * (len(models) + 1), _LEGEND + sum(heights))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    _legend(draw, classes)
    top = _LEGEND
    for row, height in zip(rows, heights, strict=True):
        captions = [row.caption]
        captions += [f"{m} {v:.3f}" for m, v in zip(models, row.ious, strict=True)]
        drawn = [outlined(row.image, li, SIDE) for li in _lines(row, len(classes))]
        for place, (text, picture) in enumerate(zip(captions, drawn, strict=True)):
            left = place * cell
            draw.text((left, top + 3), fit(text, SIDE, draw), "black", font())
            canvas.paste(Image.fromarray(picture), (left, top + _LINE))
        top += height
    canvas.save(path, format="PNG")


def row_height(row: SheetRow) -> int:
    """Pixels of the row's pictures, as `outlined` scales them."""
    height, width = (int(side) for side in row.image.shape[:2])
    return max(1, round(height * SIDE / max(height, width)))


def _lines(row: SheetRow, classes: int) -> list[list[Line]]:
    """Of each picture, from left to right."""
    if classes > 1:
        return [
            [(each == n, class_colour(n), 3) for n in range(1, classes + 1)]
            for each in (row.truth, *row.preds)
        ]
    truth = (row.truth > 0, GREEN, 4)
    return [[], *([truth, (pred > 0, MAGENTA, 2)] for pred in row.preds)]


def _legend(draw: ImageDraw.ImageDraw, classes: Sequence[str]) -> None:
    named = [(GREEN, "truth"), (MAGENTA, "model, with its IoU")]
    if len(classes) > 1:
        named = [(class_colour(n), name) for n, name in enumerate(classes, 1)]
    left = 0
    for colour, text in named:
        draw.rectangle((left, 12, left + 22, 16), fill=colour)
        draw.text((left + 28, 3), text, "black", font())
        left += 28 + round(draw.textlength(text, font())) + 24
    if len(classes) > 1:
        draw.text((left, 3), "first the truth, then each model", "black", font())
