"""HD95: how far the outlines of prediction and truth lie apart, in pixels.

The 95th percentile of the distances from each outline to the other, the larger of the
two directions (Maier-Hein et al., Metrics Reloaded, 2024; as MONAI computes it).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from kmunet.evaluation.overlap import Mask, check_masks


def hd95(pred: Mask, truth: Mask, percentile: float = 95.0) -> float:
    """Hausdorff distance at a percentile, of two bool masks (H, W), in pixels.

    Two empty masks are 0 apart. With one empty mask no distance is defined: NaN.
    """
    check_masks(pred, truth)
    if not pred.any() or not truth.any():
        return 0.0 if pred.any() == truth.any() else float("nan")
    window = _window(pred | truth)
    ours, theirs = outline(pred[window]), outline(truth[window])
    there = np.percentile(_distances(ours, theirs), percentile)
    back = np.percentile(_distances(theirs, ours), percentile)
    return float(max(there, back))


def outline(mask: Mask) -> Mask:
    """Pixels of a mask with a 4-neighbour outside it or outside the image."""
    inner: Mask = binary_erosion(mask)
    return mask & ~inner


def _distances(start: Mask, goal: Mask) -> NDArray[np.float64]:
    # Euclidean distance of each pixel of `start` to the nearest one of `goal`.
    field: NDArray[np.float64] = np.asarray(distance_transform_edt(~goal))
    return field[start]


def _window(union: Mask) -> tuple[slice, slice]:
    # The bounding box: outside it neither mask has an outline.
    rows = np.flatnonzero(union.any(axis=1))
    columns = np.flatnonzero(union.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
