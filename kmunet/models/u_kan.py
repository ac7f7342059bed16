"""U-KAN (arXiv 2406.02918): the U-Net with tokenized KAN stages that KM-UNet extends.

Attribute names are those of the published code, so that its weights load.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kmunet.models.km_unet import (
    MULTIPLE,
    channels_last,
    deeper,
    heads,
    tokens,
)
from kmunet.nn import DecoderStage, EncoderStage, KANBlock, PatchEmbed, pad_to_multiple
from kmunet.widths import check_channels, check_widths


class UKAN(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W), for any H, W > 0.

    `drop_path` and `deep_supervision` as in KMUNet. Raises ConfigError for widths that
    cannot be built.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (128, 160, 256),
        kan: bool = True,
        drop_path: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        check_channels(in_channels, num_classes)
        w3, w4, w5 = check_widths(widths)
        w1, w2 = w3 // 8, w3 // 4
        self.encoder1 = EncoderStage(in_channels, w1)
        self.encoder2 = EncoderStage(w1, w2)
        self.encoder3 = EncoderStage(w2, w3)
        self.patch_embed3 = PatchEmbed(w3, w4)
        self.block1 = nn.ModuleList([KANBlock(w4, kan, drop_path)])
        self.norm3 = nn.LayerNorm(w4)
        self.patch_embed4 = PatchEmbed(w4, w5)
        self.block2 = nn.ModuleList([KANBlock(w5, kan, drop_path)])
        self.norm4 = nn.LayerNorm(w5)
        self.decoder1 = DecoderStage(w5, w4)
        self.dblock1 = nn.ModuleList([KANBlock(w4, kan, drop_path)])
        self.dnorm3 = nn.LayerNorm(w4)
        self.decoder2 = DecoderStage(w4, w3)
        self.dblock2 = nn.ModuleList([KANBlock(w3, kan, drop_path)])
        self.dnorm4 = nn.LayerNorm(w3)
        self.decoder3 = DecoderStage(w3, w2)
        self.decoder4 = DecoderStage(w2, w1)
        self.decoder5 = DecoderStage(w1, w1)
        self.final = nn.Conv2d(w1, num_classes, 1)
        self.heads = heads((w1, w2, w3), num_classes if deep_supervision else 0)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = x.shape[-2:]
        x = channels_last(pad_to_multiple(x, MULTIPLE))
        x1 = self.encoder1(x)
        x2 = self.encoder2(x1)
        x3 = self.encoder3(x2)
        x4 = tokens(x3, self.patch_embed3, self.block1, self.norm3)
        x5 = tokens(x4, self.patch_embed4, self.block2, self.norm4)
        y = refine(self.decoder1(x5) + x4, self.dblock1, self.dnorm3)
        y = y8 = refine(self.decoder2(y) + x3, self.dblock2, self.dnorm4)
        y = y4 = self.decoder3(y) + x2
        y = y2 = self.decoder4(y) + x1
        logits: Tensor = self.final(self.decoder5(y))[..., :height, :width]
        if not (self.training and self.heads):
            return logits
        return logits, *deeper(self.heads, (y2, y4, y8), (height, width))


def refine(x: Tensor, blocks: nn.ModuleList, norm: nn.Module) -> Tensor:
    """KAN blocks at full width on the way up: (B, C, H, W) -> the same shape."""
    x = x.permute(0, 2, 3, 1)
    for block in blocks:
        x = block(x)
    x = norm(x)
    return x.permute(0, 3, 1, 2)
