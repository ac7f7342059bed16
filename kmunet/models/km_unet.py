"""KM-UNet (arXiv 2501.02559): a U of convolution, KAN and state-space stages.

Attribute names are those of the published code, so that its weights load; what that
code builds and never uses (dblock*, dnorm*, cbam*) is left out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kmunet.nn import (
    SS2D,
    DecoderStage,
    EfficientMultiScaleAttention,
    EncoderStage,
    KANBlock,
    LayerScale,
    PatchEmbed,
    pad_to_multiple,
)
from kmunet.nn.upsample import upsample
from kmunet.widths import check_channels, check_widths

MULTIPLE = 32  # five halvings


class KMUNet(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W), for any H, W > 0.

    `kan`, `ss2d` and `attention` switch a part off: KANLinear becomes nn.Linear, the
    other two become the identity. `drop_path` is that of the KAN blocks. With
    `deep_supervision` training gets (logits, those of a half, a quarter and an eighth
    of the resolution, brought up to (H, W)). `skip_gain` multiplies the initial output
    weights of the scans in the skips: as published, a skip starts with a fifth of the
    deviation of the decoder's map that it is added to. With `layer_scale` scan and
    attention are a branch beside the identity, as in VMamba, which starts at that
    weight (LayerScale); without, they are all that passes, as published. Raises
    ConfigError for widths that cannot be built.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (128, 160, 256),
        kan: bool = True,
        ss2d: bool = True,
        attention: bool = True,
        drop_path: float = 0.0,
        deep_supervision: bool = False,
        skip_gain: float = 1.0,
        layer_scale: float | None = None,
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
        self.decoder2 = DecoderStage(w4, w3)
        self.decoder3 = DecoderStage(w3, w2)
        self.decoder4 = DecoderStage(w2, w1)
        self.decoder5 = DecoderStage(w1, w1)
        self.final = nn.Conv2d(w1, num_classes, 1)
        self.ss2d_1, self.ema1 = scan(w1, ss2d), attend(w1, attention)
        self.ss2d_2, self.ema2 = scan(w2, ss2d), attend(w2, attention)
        self.ss2d_3, self.ema3 = scan(w3, ss2d), attend(w3, attention)
        self.ss2d_decoder1, self.ema_decoder1 = scan(w4, ss2d), attend(w4, attention)
        self.ss2d_decoder2, self.ema_decoder2 = scan(w3, ss2d), attend(w3, attention)
        self.ss2d_decoder3, self.ema_decoder3 = scan(w2, ss2d), attend(w2, attention)
        self.ss2d_decoder4, self.ema_decoder4 = scan(w1, ss2d), attend(w1, attention)
        residual = layer_scale if ss2d or attention else None
        self.skip_scales = layer_scales((w1, w2, w3), residual)
        self.decoder_scales = layer_scales((w4, w3, w2, w1), residual)
        self.heads = heads((w1, w2, w3), num_classes if deep_supervision else 0)
        for skip in (self.ss2d_1, self.ss2d_2, self.ss2d_3):
            amplify(skip, skip_gain)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = x.shape[-2:]
        x = channels_last(pad_to_multiple(x, MULTIPLE))
        x1 = self.encoder1(x)
        x2 = self.encoder2(x1)
        x3 = self.encoder3(x2)
        x4 = tokens(x3, self.patch_embed3, self.block1, self.norm3)
        x5 = tokens(x4, self.patch_embed4, self.block2, self.norm4)
        y = self._refine(1, self.decoder1(x5) + x4)
        y = y8 = self._refine(2, self.decoder2(y) + self._skip(3, x3))
        y = y4 = self._refine(3, self.decoder3(y) + self._skip(2, x2))
        y = y2 = self._refine(4, self.decoder4(y) + self._skip(1, x1))
        logits: Tensor = self.final(self.decoder5(y))[..., :height, :width]
        if not (self.training and self.heads):
            return logits
        return logits, *deeper(self.heads, (y2, y4, y8), (height, width))

    def _skip(self, stage: int, x: Tensor) -> Tensor:
        """A stage of the encoder, as the decoder gets it."""
        scan, attention = getattr(self, f"ss2d_{stage}"), getattr(self, f"ema{stage}")
        return branch(x, scan, attention, self.skip_scales, stage)

    def _refine(self, stage: int, x: Tensor) -> Tensor:
        """A stage of the decoder."""
        scan = getattr(self, f"ss2d_decoder{stage}")
        attention = getattr(self, f"ema_decoder{stage}")
        return branch(x, scan, attention, self.decoder_scales, stage)


def heads(widths: Sequence[int], channels: int) -> nn.ModuleList:
    """1x1 convolutions to logits, one a width; none for no channels."""
    return nn.ModuleList(nn.Conv2d(w, channels, 1) for w in widths if channels)


def deeper(
    heads: nn.ModuleList, maps: Sequence[Tensor], size: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Logits of maps at 1/2, 1/4, ... of the resolution, at full `size` (H, W)."""
    return tuple(
        upsample(head(x), 2**n)[..., : size[0], : size[1]]
        for n, (head, x) in enumerate(zip(heads, maps, strict=True), 1)
    )


def channels_last(x: Tensor) -> Tensor:
    """In memory a pixel's channels lie together: what follows has no copies."""
    return x.contiguous(memory_format=torch.channels_last)


def scan(width: int, on: bool) -> nn.Module:
    """The state-space part at one place, or the identity."""
    return SS2D(width) if on else nn.Identity()


@torch.no_grad()
def amplify(scan: nn.Module, gain: float) -> None:
    """Multiply the output weights of an SS2D."""
    if isinstance(scan, SS2D):
        scan.out_proj.weight.mul_(gain)


def layer_scales(widths: Sequence[int], start: float | None) -> nn.ModuleList:
    """One a width; none without a start."""
    starts = [] if start is None else [start] * len(widths)
    return nn.ModuleList(map(LayerScale, widths, starts))


def branch(
    x: Tensor, scan: nn.Module, attention: nn.Module, scales: nn.ModuleList, stage: int
) -> Tensor:
    """attention(scan(x)); with scales it is added to x."""
    y: Tensor = attention(scan(x))
    return scales[stage - 1](x, y) if scales else y


def attend(width: int, on: bool) -> nn.Module:
    """The attention part at one place, or the identity."""
    return EfficientMultiScaleAttention(width) if on else nn.Identity()


def tokens(
    x: Tensor, embed: nn.Module, blocks: nn.ModuleList, norm: nn.Module
) -> Tensor:
    """A tokenized KAN stage: (B, C, H, W) -> (B, E, H/2, W/2)."""
    x = embed(x)
    for block in blocks:
        x = block(x)
    x = norm(x)
    return x.permute(0, 3, 1, 2)
