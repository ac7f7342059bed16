"""Losses by name. Logits (B, 1, H, W), target (B, 1, H, W) in {0, 1}, both float."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def soft_dice(logits: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """Return 1 - soft Dice, an image at a time, then the mean (V-Net, eq. 3)."""
    probabilities = torch.sigmoid(logits).flatten(1)
    truth = target.flatten(1)
    overlap = (probabilities * truth).sum(1)
    total = probabilities.sum(1) + truth.sum(1)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def bce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 0.5 binary cross-entropy + soft Dice, the published KM-UNet's loss."""
    return 0.5 * F.binary_cross_entropy_with_logits(logits, target) + soft_dice(
        logits, target
    )


LOSSES: dict[str, Loss] = {"bce_dice": bce_dice}
