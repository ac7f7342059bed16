"""Losses by name: logits (B, C, H, W), target (B, 1, H, W), float, 0 or the class.

One channel is one class, by sigmoid; K + 1 channels are K classes and the background,
by softmax. Each loss is a mean over images of an image's own loss, so that the mean
over the workers' equal shares of a batch is the loss of the batch.
"""

from torch import Tensor

from kmunet.training import binary_losses, class_losses
from kmunet.training.monai_loss import Loss


def _by_channels(binary: Loss, classes: Loss) -> Loss:
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return (binary if logits.shape[1] == 1 else classes)(logits, target)

    return loss


LOSSES: dict[str, Loss] = {
    "bce_dice": _by_channels(binary_losses.bce_dice, class_losses.bce_dice),
    "dice_ce": _by_channels(binary_losses.dice_ce, class_losses.dice_ce),
    "tversky": _by_channels(binary_losses.tversky, class_losses.tversky),
    "lovasz": _by_channels(binary_losses.lovasz_hinge, class_losses.lovasz_softmax),
    "boundary": _by_channels(binary_losses.boundary, class_losses.boundary),
}
