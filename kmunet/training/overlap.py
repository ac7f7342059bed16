"""IoU and Dice while training: counts on the device, one transfer an epoch."""

import torch
import torch.distributed as dist
from torch import Tensor


class RunningOverlap:
    """Mean per-image IoU and Dice, and the mean loss, over what was added.

    An image whose truth and prediction are both empty counts as 1 (docs/metrics.md).
    """

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
        """Add a batch: logits and target (B, 1, H, W), the batch's mean loss."""
        predicted = (torch.sigmoid(logits) > threshold).flatten(1)
        truth = (target > 0.5).flatten(1)
        overlap = (predicted & truth).sum(1).double()
        union = (predicted | truth).sum(1).double()
        total = union + overlap
        one = torch.ones_like(union)
        iou = torch.where(union > 0, overlap / union.clamp(min=1), one)
        dice = torch.where(total > 0, 2 * overlap / total.clamp(min=1), one)
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
