"""Losses of one class: logits (B, 1, H, W), target (B, 1, H, W) in {0, 1}, float."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.training.monai_loss import boundary_loss, monai_loss

BOUNDARY_WEIGHT = 0.01  # Kervadec et al. start there and rebalance


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


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Lovász hinge, a convex bound of 1 - IoU (arXiv 1705.08790, eq. 12)."""
    truth = target.flatten(1)
    errors = 1 - logits.flatten(1) * (2 * truth - 1)
    errors, order = torch.sort(errors, dim=1, descending=True, stable=True)
    weights = lovasz_weights(truth.gather(1, order))
    return (F.relu(errors) * weights).sum(1).mean()


def lovasz_weights(truth: Tensor) -> Tensor:
    """Return the Lovász extension's weights of errors (..., N) that fall (eq. 9).

    truth: the classes 0 or 1 of the pixels in that order.
    """
    missed = truth.sum(-1, keepdim=True) - truth.cumsum(-1)
    union = truth.sum(-1, keepdim=True) + (1 - truth).cumsum(-1)
    loss = 1 - missed / union  # 1 - IoU if the first k pixels are wrong
    return torch.diff(loss, dim=-1, prepend=torch.zeros_like(loss[..., :1]))


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Return Dice + cross-entropy as nnU-Net has it, by MONAI."""
    return monai_loss("DiceCELoss", sigmoid=True)(logits, target)


def tversky(logits: Tensor, target: Tensor) -> Tensor:
    """Return Tversky with misses dearer than false alarms (arXiv 1706.05721), MONAI."""
    return monai_loss("TverskyLoss", sigmoid=True, alpha=0.3, beta=0.7)(logits, target)


def boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Return soft Dice + 0.01 boundary loss (arXiv 1812.07032, eq. 5), by MONAI."""
    edge = boundary_loss(sigmoid=True)(logits, target)
    return soft_dice(logits, target) + BOUNDARY_WEIGHT * edge
