"""Building blocks: KAN layers, SS2D, multi-scale attention, convolution stages."""

from kmunet.nn.attention import EfficientMultiScaleAttention
from kmunet.nn.conv import DecoderStage, EncoderStage
from kmunet.nn.kan import KANLinear
from kmunet.nn.kan_block import KANBlock, KANLayer
from kmunet.nn.layer_scale import LayerScale
from kmunet.nn.padding import pad_to_multiple
from kmunet.nn.patch_embed import PatchEmbed
from kmunet.nn.ss2d import SS2D

__all__ = [
    "SS2D",
    "DecoderStage",
    "EfficientMultiScaleAttention",
    "EncoderStage",
    "KANBlock",
    "KANLayer",
    "KANLinear",
    "LayerScale",
    "PatchEmbed",
    "pad_to_multiple",
]
