"""The tokenized KAN block of U-KAN (arXiv 2406.02918), on maps (B, H, W, C)."""

import math

import torch
from torch import Tensor, nn

from kmunet.nn.kan import KANLinear
from kmunet.nn.norm import norm_relu


class DepthwiseNormReLU(nn.Module):
    """3x3 depthwise convolution, batch norm, ReLU on a map (B, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)  # a channels_last image, without a copy
        return norm_relu(self.dwconv(x), self.bn).permute(0, 2, 3, 1)


class KANLayer(nn.Module):
    """Three times: KANLinear (or, with kan=False, nn.Linear), then depthwise conv."""

    def __init__(self, channels: int, kan: bool = True) -> None:
        super().__init__()
        linear = KANLinear if kan else nn.Linear
        self.fc1 = linear(channels, channels)
        self.fc2 = linear(channels, channels)
        self.fc3 = linear(channels, channels)
        self.dwconv_1 = DepthwiseNormReLU(channels)
        self.dwconv_2 = DepthwiseNormReLU(channels)
        self.dwconv_3 = DepthwiseNormReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dwconv_1(self.fc1(x))
        x = self.dwconv_2(self.fc2(x))
        out: Tensor = self.dwconv_3(self.fc3(x))
        return out


class KANBlock(nn.Module):
    """x + KANLayer(LayerNorm(x)) on a map (B, H, W, C).

    In training the layer is left out of an image with probability `drop_path`
    (stochastic depth, arXiv 1603.09382), and weighs more where it is not.
    """

    def __init__(self, channels: int, kan: bool = True, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm2 = nn.LayerNorm(channels)
        self.layer = KANLayer(channels, kan)
        self.apply(init_token_weights)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.layer(self.norm2(x))
        if self.training and self.drop_path:
            keep = 1.0 - self.drop_path
            kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep
            update = update * (kept / keep).to(update.dtype)
        return x + update


def init_token_weights(module: nn.Module) -> None:
    """U-KAN's initial values: truncated normal for linear, fan-out for conv layers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        area = module.kernel_size[0] * module.kernel_size[1]
        fan_out = area * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
