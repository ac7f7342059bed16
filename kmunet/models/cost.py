"""What a model costs: parameters, and floating-point operations of one image.

Products and convolutions are counted by torch, two operations a multiply-add. No
counter sees inside a kernel, so modules that may run as one are counted here, as they
are written in their papers. A scan: 9 D L N + D L for D channels, N states and L
pixels, as VMamba counts (arXiv 2401.10166; state-spaces/mamba, issue 110).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kmunet.nn import SS2D, EfficientMultiScaleAttention
from kmunet.nn.ss2d import DIRECTIONS


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops(model: nn.Module, size: int, channels: int = 3) -> int:
    """Of the forward pass of one image (channels, size, size), in evaluation mode.

    Norms, activations, additions and the spline bases are not counted, as usual.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    image = torch.zeros((1, channels, size, size), device=device)
    training = model.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _kernels(model, counter) as corrections:
        model.eval()(image)
    model.train(training)
    return int(counter.get_total_flops()) + sum(corrections)


def ss2d_flops(block: SS2D, height: int, width: int) -> int:
    """Of one SS2D on an image, whichever version of the scan runs."""
    inner, rank = block.dt_projs_weight.shape[1:]
    channels, states = block.in_proj.in_features, block.A_logs.shape[1]
    window = block.conv2d.weight[0].numel()
    products = 2 * channels * inner  # in_proj, in two halves
    products += window * inner + inner * channels  # conv2d, out_proj
    products += DIRECTIONS * (inner * (rank + 2 * states) + rank * inner)
    scans = DIRECTIONS * inner * (9 * states + 1)
    return height * width * (2 * products + scans)


def attention_flops(
    block: EfficientMultiScaleAttention, height: int, width: int
) -> int:
    """Of one attention on an image, with or without its kernel."""
    group = block.conv3x3.in_channels
    pixels, channels = height * width, block.groups * group
    local = pixels * block.conv3x3.weight[0].numel()  # of a channel
    gates = (height + width) * group
    return 2 * channels * (local + gates + 2 * pixels)  # the last: two weighted sums


def _own_count(block: nn.Module, height: int, width: int) -> int | None:
    if isinstance(block, SS2D):
        return ss2d_flops(block, height, width)
    if isinstance(block, EfficientMultiScaleAttention):
        return attention_flops(block, height, width)
    return None


@contextmanager
def _kernels(model: nn.Module, counter: Any) -> Iterator[list[int]]:
    """What is missing in, or too much of, the count of each such module that runs."""
    before, corrections = [0], []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before[0] = counter.get_total_flops()

    def leave(block: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        counted = counter.get_total_flops() - before[0]
        expected = _own_count(block, *inputs[0].shape[-2:])
        assert expected is not None
        corrections.append(expected - counted)

    hooks = []
    for block in model.modules():
        if isinstance(block, SS2D | EfficientMultiScaleAttention):
            hooks.append(block.register_forward_pre_hook(enter))
            hooks.append(block.register_forward_hook(leave))
    try:
        yield corrections
    finally:
        for hook in hooks:
            hook.remove()
