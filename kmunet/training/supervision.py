"""What a model gives in training against the truth: the loss at all its outputs.

Deep supervision (arXiv 1409.5185) is the loss at every depth; where a model decides
too whether there is anything at all, that decision is taught beside each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.models.presence import Decided, depths
from kmunet.training.monai_loss import Loss

Outputs = Tensor | tuple[Tensor, ...] | Decided
PRESENCE_WEIGHT = 0.5  # beside the loss of the pixels


def supervise(loss: Loss, outputs: Outputs, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the loss, in float32, of what a model gives in training.

    Of several logits, all at full size, the n-th deeper one weighs 1 / 2^n, and the
    weights sum to 1 (nnU-Net, arXiv 1809.10486).
    """
    if not isinstance(outputs, Decided):
        outputs = Decided(depths(outputs))
    whole = [logits.float() for logits in outputs.logits]
    losses = [loss(logits, target) for logits in whole]
    if outputs.present:
        truth = present(target, outputs.present[0].shape[1])
        for n, decision in enumerate(outputs.present):
            missed = F.binary_cross_entropy_with_logits(decision, truth)
            losses[n] = losses[n] + PRESENCE_WEIGHT * missed
    weights = [0.5**n for n in range(len(losses))]
    weighted = (w * each for w, each in zip(weights, losses, strict=True))
    return whole[0], sum(weighted, target.new_zeros(())) / sum(weights)


def present(target: Tensor, classes: int) -> Tensor:
    """Target (B, 1, H, W), 0 or the class -> (B, classes), 1 where an image has it."""
    each = torch.arange(1, classes + 1, device=target.device)
    return (target.flatten(1)[:, :, None] == each).any(1).to(target)
