"""What a model costs: parameters, and floating-point operations of one image.

Products and convolutions are counted by torch, two operations a multiply-add. No
counter sees inside a scan: 9 D L N + D L for one of D channels, N states and L pixels,
as VMamba counts (arXiv 2401.10166; state-spaces/mamba, issue 110).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kmunet.nn import SS2D
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
    with torch.no_grad(), counter, _scans(model, counter) as corrections:
        model.eval()(image)
    model.train(training)
    return int(counter.get_total_flops()) + sum(corrections)


def ss2d_flops(block: SS2D, pixels: int) -> int:
    """Of one SS2D on an image of so many pixels, whichever version of the scan runs."""
    inner, rank = block.dt_projs_weight.shape[1:]
    channels, states = block.in_proj.in_features, block.A_logs.shape[1]
    window = block.conv2d.weight[0].numel()
    products = 2 * channels * inner  # in_proj, in two halves
    products += window * inner + inner * channels  # conv2d, out_proj
    products += DIRECTIONS * (inner * (rank + 2 * states) + rank * inner)
    scans = DIRECTIONS * inner * (9 * states + 1)
    return pixels * (2 * products + scans)


@contextmanager
def _scans(model: nn.Module, counter: Any) -> Iterator[list[int]]:
    """What is missing in, or too much of, the count of each SS2D that runs."""
    before, corrections = [0], []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before[0] = counter.get_total_flops()

    def leave(block: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(block, SS2D)
        counted = counter.get_total_flops() - before[0]
        pixels = inputs[0].shape[-2:].numel()
        corrections.append(ss2d_flops(block, pixels) - counted)

    hooks = []
    for block in model.modules():
        if isinstance(block, SS2D):
            hooks.append(block.register_forward_pre_hook(enter))
            hooks.append(block.register_forward_hook(leave))
    try:
        yield corrections
    finally:
        for hook in hooks:
            hook.remove()
