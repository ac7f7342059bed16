"""Contact sheets: small images in rows, masks outlined, a line of text above each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kmunet.report.contours import GREEN, fit, font

Pixels = NDArray[np.uint8]
_LINE, _EDGE = 26, 4  # pixels


@dataclass(frozen=True)
class Tile:
    """One or more images side by side under a caption, all of one side length.

    images: uint8 (H, W) or (H, W, 3); masks: uint8 (H, W), outlined where not 0.
    """

    caption: str
    images: Sequence[Pixels]
    masks: Sequence[Pixels]


def write_sheet(path: Path, tiles: Sequence[Tile], side: int, columns: int) -> None:
    """Write the tiles as one PNG. Same input, same bytes."""
    width = max(len(tile.images) for tile in tiles) * side + _EDGE
    height = side + _LINE + _EDGE
    rows = -(-len(tiles) // columns)
    canvas = Image.new(
        "RGB", (min(columns, len(tiles)) * width, rows * height), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for number, tile in enumerate(tiles):
        left, top = number % columns * width, number // columns * height
        draw.text((left, top + 2), fit(tile.caption, width - 8, draw), "black", font())
        for place, (image, mask) in enumerate(
            zip(tile.images, tile.masks, strict=True)
        ):
            picture = Image.fromarray(_outlined(image, mask, side))
            canvas.paste(picture, (left + place * side, top + _LINE))
    canvas.save(path, format="PNG")


def _outlined(image: Pixels, mask: Pixels, side: int) -> Pixels:
    """uint8 RGB (side, side): the image fitted in, on white, with its outline."""
    colour = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    scale = side / max(colour.shape[:2])
    size = [
        max(1, round(length * scale)) for length in (colour.shape[1], colour.shape[0])
    ]
    shown = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(np.minimum(mask, 1), size, interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    shown = cv2.drawContours(np.ascontiguousarray(shown), lines, -1, GREEN, 1)
    full = np.full((side, side, 3), 255, np.uint8)
    full[: shown.shape[0], : shown.shape[1]] = shown
    return full
