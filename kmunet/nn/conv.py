"""Convolution stages of the U: halve on the way down, double on the way up."""

import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.nn.norm import norm_relu
from kmunet.nn.upsample import upsample


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, middle, 3, padding=1),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def _convolve(self, x: Tensor) -> Tensor:
        first, norm, _, second, last, _ = self.conv
        return norm_relu(second(norm_relu(first(x), norm)), last)


class EncoderStage(DoubleConv):
    """(B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        # Published code adds a ReLU, which changes nothing after ReLU and pooling.
        return F.max_pool2d(self._convolve(x), 2)


class DecoderStage(DoubleConv):
    """(B, in, H, W) -> (B, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self._convolve(x), 2)
