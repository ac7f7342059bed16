"""IoU as the KM-UNet paper's code counts it: pooled over batches of 8 images.

Pixels of a batch are counted together, (intersection + 1e-5) / (union + 1e-5), Dice is
2 IoU / (1 + IoU), and batches are averaged by their size. The number depends on the
batch size and the order, and large lesions outweigh small ones: for comparison with
published tables only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAPER_BATCH = 8
PAPER_SMOOTH = 1e-5


def pooled_iou(
    preds: NDArray[np.bool_],
    truths: NDArray[np.bool_],
    batch_size: int = PAPER_BATCH,
    smooth: float = PAPER_SMOOTH,
) -> tuple[float, float]:
    """(IoU, Dice) of bool masks (N, H, W) in their order. ValueError if none."""
    if preds.shape != truths.shape or preds.ndim != 3 or not len(preds):
        raise ValueError(
            f"preds {preds.shape} and truths {truths.shape} must both be (N, H, W)"
        )
    counts = [shared_pixels(p, t) for p, t in zip(preds, truths, strict=True)]
    return pool(counts, batch_size, smooth)


def shared_pixels(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    """Pixels of intersection and union of two masks."""
    return int(np.count_nonzero(pred & truth)), int(np.count_nonzero(pred | truth))


def pool(
    counts: Sequence[tuple[int, int]],
    batch_size: int = PAPER_BATCH,
    smooth: float = PAPER_SMOOTH,
) -> tuple[float, float]:
    """(IoU, Dice) from intersection and union of each image, in their order."""
    total = {"iou": 0.0, "dice": 0.0}
    for start in range(0, len(counts), batch_size):
        batch = counts[start : start + batch_size]
        intersection, union = (sum(column) for column in zip(*batch, strict=True))
        iou = (intersection + smooth) / (union + smooth)
        total["iou"] += iou * len(batch)
        total["dice"] += 2.0 * iou / (1.0 + iou) * len(batch)
    return total["iou"] / len(counts), total["dice"] / len(counts)
