"""Overlapping patch embedding of U-KAN: image (B, C, H, W) to map (B, H/2, W/2, E)."""

from torch import Tensor, nn

from kmunet.nn.kan_block import init_token_weights


class PatchEmbed(nn.Module):
    """3x3 convolution of stride 2, then LayerNorm over channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.apply(init_token_weights)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out
