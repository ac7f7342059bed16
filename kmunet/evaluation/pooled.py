"""IoU as the KM-UNet paper's code counts it: pooled over batches of 8 images.

Pixels of a batch are counted together, (intersection + 1e-5) / (union + 1e-5), Dice is
2 IoU / (1 + IoU), and batches are averaged by their size. The number depends on the
batch size and the order, and large lesions outweigh small ones: for comparison with
published tables only.
"""

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
    total = {"iou": 0.0, "dice": 0.0}
    for start in range(0, len(preds), batch_size):
        pred, truth = (x[start : start + batch_size] for x in (preds, truths))
        iou = _smoothed_iou(pred, truth, smooth)
        total["iou"] += iou * len(pred)
        total["dice"] += 2.0 * iou / (1.0 + iou) * len(pred)
    return total["iou"] / len(preds), total["dice"] / len(preds)


def _smoothed_iou(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], smooth: float
) -> float:
    intersection = np.count_nonzero(pred & truth)
    union = np.count_nonzero(pred | truth)
    return (intersection + smooth) / (union + smooth)
