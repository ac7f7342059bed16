"""IoU and Dice while training: counts on the device, one transfer an epoch."""

import torch
import torch.distributed as dist
from torch import Tensor


def overlap(logits: Tensor, target: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """IoU and Dice of each image, float64 (B,), from logits (B, C, H, W).

    One channel: above `threshold`; several: the mean over the classes that truth or
    prediction holds. Where both are empty, 1 (docs/metrics.md).
    """
    if logits.shape[1] == 1:
        predicted = (torch.sigmoid(logits) > threshold).flatten(1)
        return _scores(predicted, (target > 0.5).flatten(1))
    classes = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1)
    predicted = logits.argmax(1, keepdim=True).flatten(2) == classes
    truth = target.flatten(2) == classes
    there = (predicted | truth).any(2).double()
    count, one = there.sum(1), torch.ones(len(logits), device=logits.device).double()
    iou, dice = (
        torch.where(count > 0, (s * there).sum(1) / count.clamp(min=1), one)
        for s in _scores(predicted, truth)
    )
    return iou, dice


def _scores(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and Dice over the last dimension of two masks; 1 where both are empty."""
    shared = (predicted & truth).sum(-1).double()
    union = (predicted | truth).sum(-1).double()
    total = union + shared
    one = torch.ones_like(union)
    iou = torch.where(union > 0, shared / union.clamp(min=1), one)
    dice = torch.where(total > 0, 2 * shared / total.clamp(min=1), one)
    return iou, dice


class RunningOverlap:
    """Mean per-image IoU and Dice, and the mean loss, over what was added."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def restore(self, sums: list[list[float]], rank: int, world_size: int) -> None:
        """Go on from every rank's sums; another number of ranks leaves all to one."""
        if len(sums) == world_size:
            self.sums += torch.tensor(sums[rank], dtype=torch.float64).to(self.sums)
        elif rank == 0 and sums:
            self.sums += torch.tensor(sums, dtype=torch.float64).sum(0).to(self.sums)

    @torch.no_grad()
    def add(
        self, logits: Tensor, target: Tensor, loss: Tensor, threshold: float
    ) -> None:
        """Add a batch: logits (B, C, H, W), target (B, 1, H, W), and its mean loss."""
        iou, dice = overlap(logits, target, threshold)
        one = torch.ones_like(iou)
        count = len(logits)
        self.sums += torch.stack(
            [iou.sum(), dice.sum(), loss.double() * count, one.sum()]
        )

    def compute(self) -> dict[str, float]:
        """Return iou, dice, loss and images, summed over all ranks."""
        sums = self.sums.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        iou, dice, loss, images = sums.tolist()
        count = max(images, 1.0)
        return {
            "iou": iou / count,
            "dice": dice / count,
            "loss": loss / count,
            "images": images,
        }
