"""A sheet of test images: one a row, plain, then with each model's outline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kmunet.report.contours import GREEN, MAGENTA, fit, font, outlined

SIDE = 300  # pixels of a picture's longer side
_LINE, _EDGE, _LEGEND = 26, 6, 30

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SheetRow:
    """A test image (H, W, 3) with its truth, and each model's mask and IoU."""

    caption: str
    image: Pixels
    truth: Mask
    preds: Sequence[Mask]
    ious: Sequence[float]


def write_comparison_sheet(
    path: Path, models: Sequence[str], rows: Sequence[SheetRow]
) -> None:
    """Write the sheet as a PNG. Same input, same bytes."""
    cell = SIDE + _EDGE
    heights = [_LINE + row_height(row) + _EDGE for row in rows]
    size = (cell * (len(models) + 1), _LEGEND + sum(heights))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    _legend(draw)
    top = _LEGEND
    for row, height in zip(rows, heights, strict=True):
        captions = [row.caption]
        captions += [f"{m} {v:.3f}" for m, v in zip(models, row.ious, strict=True)]
        pictures = [outlined(row.image, [], SIDE)]
        for pred in row.preds:
            lines = [(row.truth, GREEN, 4), (pred, MAGENTA, 2)]
            pictures.append(outlined(row.image, lines, SIDE))
        for place, (text, picture) in enumerate(zip(captions, pictures, strict=True)):
            left = place * cell
            draw.text((left, top + 3), fit(text, SIDE, draw), "black", font())
            canvas.paste(Image.fromarray(picture), (left, top + _LINE))
        top += height
    canvas.save(path, format="PNG")


def row_height(row: SheetRow) -> int:
    """Pixels of the row's pictures, as `outlined` scales them."""
    height, width = (int(side) for side in row.image.shape[:2])
    return max(1, round(height * SIDE / max(height, width)))


def _legend(draw: ImageDraw.ImageDraw) -> None:
    left = 0
    for colour, text in ((GREEN, "truth"), (MAGENTA, "model, with its IoU")):
        draw.rectangle((left, 12, left + 22, 16), fill=colour)
        draw.text((left + 28, 3), text, "black", font())
        left += 28 + round(draw.textlength(text, font())) + 24
