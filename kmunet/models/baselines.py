"""MONAI's U-Net and Attention U-Net behind the same interface, about 6.5 M and 7.9 M.

MONAI is imported when one of them is built, not before.
"""

from torch import Tensor, nn

from kmunet.nn import pad_to_multiple
from kmunet.widths import check_channels

CHANNELS = (32, 64, 128, 256, 512)
STRIDES = (2, 2, 2, 2)
MULTIPLE = 16  # four halvings


class AnySize(nn.Module):
    """A network for multiples of 16, made to take any size by padding and cropping."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        logits: Tensor = self.network(pad_to_multiple(x, MULTIPLE))
        return logits[..., :height, :width]


def unet(in_channels: int = 3, num_classes: int = 1) -> nn.Module:
    """The residual U-Net of MONAI, batch norm."""
    check_channels(in_channels, num_classes)
    from monai.networks.nets import UNet

    return AnySize(
        UNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=num_classes,
            channels=CHANNELS,
            strides=STRIDES,
            num_res_units=2,
            norm="batch",
        )
    )


def attention_unet(in_channels: int = 3, num_classes: int = 1) -> nn.Module:
    """The Attention U-Net (arXiv 1804.03999) of MONAI."""
    check_channels(in_channels, num_classes)
    from monai.networks.nets import AttentionUnet

    return AnySize(
        AttentionUnet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=num_classes,
            channels=CHANNELS,
            strides=STRIDES,
        )
    )
