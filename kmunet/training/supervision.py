"""Deep supervision (arXiv 1409.5185): the loss at every depth that a model gives."""

from torch import Tensor

from kmunet.training.monai_loss import Loss

Outputs = Tensor | tuple[Tensor, ...]


def supervise(loss: Loss, outputs: Outputs, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the loss, in float32, of what a model gives in training.

    Of several logits, all at full size, the n-th deeper one weighs 1 / 2^n, and the
    weights sum to 1 (nnU-Net, arXiv 1809.10486).
    """
    if isinstance(outputs, Tensor):
        logits = outputs.float()
        return logits, loss(logits, target)
    whole = [logits.float() for logits in outputs]
    weights = [0.5**n for n in range(len(whole))]
    losses = (w * loss(o, target) for w, o in zip(weights, whole, strict=True))
    return whole[0], sum(losses, target.new_zeros(())) / sum(weights)
