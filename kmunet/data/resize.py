"""Resizing as the model was trained: shipped with a registered model, cv2 and numpy.

Images shrink by area and grow linearly, each axis as it needs; masks take the nearest
pixel, probabilities go back to the native size linearly.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def resize_image(image: Pixels, height: int, width: int) -> Pixels:
    """uint8 (H, W, C) to (height, width, C): INTER_AREA down, INTER_LINEAR up."""
    if image.shape[:2] == (height, width):
        return image
    rows, columns = image.shape[:2]
    if (height < rows and width > columns) or (height > rows and width < columns):
        # cv2's INTER_AREA is linear on both axes where one grows: fine stripes alias.
        image = resize_image(image, min(height, rows), min(width, columns))
    shrink = height * width < image.shape[0] * image.shape[1]
    flag = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return _resize(image, height, width, flag).reshape(height, width, image.shape[2])


def resize_mask(mask: Pixels, height: int, width: int) -> Pixels:
    """uint8 (H, W) to (height, width) by the nearest pixel centre."""
    if mask.shape == (height, width):
        return mask
    return _resize(mask, height, width, cv2.INTER_NEAREST_EXACT)


def resize_probabilities(
    values: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """float32 (H, W) to (height, width), linear between pixel centres."""
    if values.shape == (height, width):
        return values
    return _resize(values, height, width, cv2.INTER_LINEAR)


def resize_maps(
    values: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """float32 (H, W) or (C, H, W) to (height, width), as `resize_probabilities`."""
    if values.ndim == 2:
        return resize_probabilities(values, height, width)
    return np.stack([resize_probabilities(value, height, width) for value in values])


def _resize(array: NDArray[Any], height: int, width: int, flag: int) -> NDArray[Any]:
    resized: NDArray[Any] = cv2.resize(array, (width, height), interpolation=flag)
    return resized
