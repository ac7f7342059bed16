"""Losses of K classes beside the background: softmax over K + 1 channels.

Logits (B, K + 1, H, W); target (B, 1, H, W), float, 0 the background or the class.
"""

import torch
from torch import Tensor

from kmunet.training.binary_losses import BOUNDARY_WEIGHT, lovasz_weights
from kmunet.training.monai_loss import boundary_loss, monai_loss

_OF_CLASSES = {"softmax": True, "to_onehot_y": True, "include_background": False}


def soft_dice(logits: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """Return 1 - soft Dice of each class and image, background aside, then the mean."""
    probabilities = logits.softmax(1)[:, 1:].flatten(2)
    truth = one_hot(target, logits.shape[1])[:, 1:].flatten(2).to(probabilities)
    overlap = (probabilities * truth).sum(2)
    total = probabilities.sum(2) + truth.sum(2)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log of the probability of a pixel's class, the mean over all pixels.

    torch's own adds in another order at each run on a GPU.
    """
    truth = one_hot(target, logits.shape[1])
    return -(logits.log_softmax(1) * truth).sum(1).mean()


def bce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 0.5 cross-entropy + soft Dice, as the published loss for one class."""
    return 0.5 * cross_entropy(logits, target) + soft_dice(logits, target)


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Lovász-Softmax (arXiv 1705.08790, eq. 11) over an image's classes.

    Per image, the mean over the classes that it has, background included.
    """
    truth = one_hot(target, logits.shape[1]).flatten(2).to(logits)
    errors = (truth - logits.softmax(1).flatten(2)).abs()
    errors, order = torch.sort(errors, dim=2, descending=True, stable=True)
    weights = lovasz_weights(truth.gather(2, order))
    there = truth.any(2).to(logits)
    losses = (errors * weights).sum(2) * there
    return (losses.sum(1) / there.sum(1)).mean()


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Return Dice of the classes, by MONAI, + cross-entropy, as nnU-Net has it."""
    dice = monai_loss("DiceLoss", **_OF_CLASSES)(logits, target)
    return dice + cross_entropy(logits, target)


def tversky(logits: Tensor, target: Tensor) -> Tensor:
    """Return Tversky with misses dearer than false alarms (arXiv 1706.05721), MONAI."""
    loss = monai_loss("TverskyLoss", **_OF_CLASSES, alpha=0.3, beta=0.7)
    return loss(logits, target)


def boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Return soft Dice + 0.01 boundary loss (arXiv 1812.07032, eq. 5), by MONAI."""
    edge = boundary_loss(**_OF_CLASSES)(logits, target)
    return soft_dice(logits, target) + BOUNDARY_WEIGHT * edge


def one_hot(target: Tensor, channels: int) -> Tensor:
    """Return bool (B, channels, H, W) of classes (B, 1, H, W)."""
    classes = torch.arange(channels, device=target.device).view(1, -1, 1, 1)
    return target == classes
