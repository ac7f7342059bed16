"""A trained model made faster for inference alone; its outputs stay, up to rounding.

A batch norm that no longer changes is a part of the convolution before it, a KAN
layer's weights are one matrix, made once and not at every call, and a convolution's lie
as images do, channels last.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kmunet.nn.conv import DoubleConv
from kmunet.nn.kan import KANLinear
from kmunet.nn.kan_block import DepthwiseNormReLU
from kmunet.nn.patch_embed import PatchEmbed


def fuse(model: nn.Module) -> nn.Module:
    """Fuse `model` in place, on the device where it is to run, and return it.

    It cannot be trained any more, and its state is no longer that of a checkpoint.
    """
    model.eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, DoubleConv):
            for n in (0, 3):
                _fold(module.conv[n], module.conv[n + 1])
                module.conv[n + 1] = nn.Identity()
        elif isinstance(module, DepthwiseNormReLU):
            _fold(module.dwconv, module.bn)
            module.bn = nn.Identity()
        elif isinstance(module, PatchEmbed):
            _put(module.proj, module.proj.weight)
        elif isinstance(module, KANLinear):
            module.fuse()
    return model


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    """norm(conv(x)) as conv(x), computed in float64."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    statistics = (norm.running_mean, norm.running_var)
    assert statistics[0] is not None
    assert statistics[1] is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        statistics[0].double(),
        statistics[1].double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    dtype = conv.weight.dtype
    _put(conv, weight.to(dtype))
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _put(conv: nn.Conv2d, weight: Tensor) -> None:
    weight = weight.contiguous(memory_format=torch.channels_last)
    conv.weight = nn.Parameter(weight, requires_grad=False)
