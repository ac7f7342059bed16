"""LayerScale (arXiv 2103.17239, equation 4): how much a branch adds to its input."""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """(x, branch), both (B, C, H, W) -> x + weight * branch, a weight a channel."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.weight.view(-1, 1, 1).to(branch.dtype) * branch
