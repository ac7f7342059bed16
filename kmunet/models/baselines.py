"""MONAI's networks behind the same interface, with the widths of their papers.

MONAI is imported when one of them is built, not before.
"""

from torch import Tensor, nn

from kmunet.nn import pad_to_multiple
from kmunet.widths import check_channels

CHANNELS = (32, 64, 128, 256, 512)
STRIDES = (2, 2, 2, 2)
HALVINGS_4, HALVINGS_5 = 16, 32  # of the U-Nets, of the Swin transformer


class AnySize(nn.Module):
    """A network for multiples of a size, made to take any by padding and cropping.

    `least`: a picture smaller than this on both sides is padded to it.
    """

    def __init__(
        self, network: nn.Module, multiple: int = HALVINGS_4, least: int = 1
    ) -> None:
        super().__init__()
        self.network = network
        self.multiple, self.least = multiple, least

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        small = max(height, width) < self.least
        padded = pad_to_multiple(x, self.least if small else self.multiple)
        logits: Tensor = self.network(padded)
        return logits[..., :height, :width]


class LastOutput(nn.Module):
    """Of a network that returns a list, the last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)[-1]
        return logits


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


def unet_plus_plus(in_channels: int = 3, num_classes: int = 1) -> nn.Module:
    """U-Net++ (arXiv 1807.10165) of MONAI, batch norm, without deep supervision."""
    check_channels(in_channels, num_classes)
    from monai.networks.nets import BasicUNetPlusPlus

    network = BasicUNetPlusPlus(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        features=(*CHANNELS, CHANNELS[0]),
        norm="batch",
    )
    # It computes all four heads and returns the last one: three would never learn.
    for head in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
        setattr(network, head, nn.Identity())
    return AnySize(LastOutput(network))


def swin_unetr(in_channels: int = 3, num_classes: int = 1) -> nn.Module:
    """Swin UNETR (arXiv 2201.01266) of MONAI in 2-D, 24 features at the start.

    Its instance norms need more than one pixel at the fifth halving: 64 at the top.
    """
    check_channels(in_channels, num_classes)
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        spatial_dims=2,
        feature_size=24,
    )
    return AnySize(network, HALVINGS_5, least=2 * HALVINGS_5)
