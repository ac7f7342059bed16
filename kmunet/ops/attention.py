"""Efficient multi-scale attention in few passes over the pixels, on the CPU kernel.

A group's score is sum_c a_c local_c + b_c pooled_c with a and b the softmax of the
channel means of pooled and local. Those of pooled, a norm's output, are the norm's
bias: a is constant, and sum_c a_c local_c one 3x3 convolution to one channel. Those of
local follow from sums of x. So the kernel goes over the pixels, and what lies between
its passes is small: torch does it, and differentiates it.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.cpu.attention import Mixed, Passes
from kmunet.ops.cpu.native import Kernel


class Weights(NamedTuple):
    """Of a module whose groups have w channels. All float32."""

    mix: Tensor  # (w, w, 1, 1), the 1x1 convolution
    mix_bias: Tensor  # (w)
    window: Tensor  # (w, w, 3, 3), the 3x3 convolution
    window_bias: Tensor  # (w)
    norm: Tensor  # (w)
    norm_bias: Tensor  # (w)


def attend(of: Kernel, x: Tensor, weights: Weights, epsilon: float) -> Tensor:
    """x (B, G w, H, W) -> the same shape and dtype, channels last.

    float32 or bfloat16 on the CPU. Keeps x and a number for each pixel and group.
    First derivatives only.
    """
    y: Tensor = _Attend.apply(of, epsilon, x.permute(0, 2, 3, 1), *weights)  # type: ignore[no-untyped-call]
    return y.permute(0, 3, 1, 2)


class _Small(NamedTuple):
    """All that the results between the passes depend on."""

    means: Tensor  # (B, H + W, C)
    corners: Tensor  # (B, 2, 2, C)
    variance: Tensor  # (B, C)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, of: Kernel, epsilon: float, x: Tensor, *given: Tensor
    ) -> Tensor:
        weights, passes = Weights(*given), _passes(of, x.contiguous(), given)
        with torch.autocast("cpu", enabled=False):
            means = passes.means()
            gates = _gates(means, weights)
            mean, variance = passes.moments(gates)
            small = _Small(means, _corners(x), variance)
            mixed = _mix(small, weights, epsilon, x.shape[1])
            out, shares = passes.weigh(gates=gates, mean=mean, **mixed._asdict())
        ctx.save_for_backward(*given, *small, mean, passes.x, shares)
        ctx.kernel, ctx.epsilon = of, epsilon
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        *kept, mean, x, shares = ctx.saved_tensors
        leaves = [tensor.detach().requires_grad_() for tensor in kept]
        weights, small = Weights(*leaves[:6]), _Small(*leaves[6:])
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            gates = _gates(small.means, weights)
            mixed = _mix(small, weights, ctx.epsilon, x.shape[1])
        passes = _passes(ctx.kernel, x, weights)
        known = {"gates": gates, "mean": mean, **mixed._asdict()}
        known |= {"weights": shares, "dout": dout.contiguous()}
        # Leaves gather what comes back to them.
        known["dscore"], dmixed = passes.score_gradient(**known)
        torch.autograd.backward(mixed, dmixed)
        pixels = x.shape[1] * x.shape[2]
        known["slope"] = _gradient(small.variance) * (2 / pixels)
        known["constant"] = mixed.scale * dmixed.shift * (-1 / pixels)
        torch.autograd.backward(gates, passes.gate_gradient(**known))
        dx = passes.pixel_gradient(**known, dmeans=_gradient(small.means))
        _add_to_corners(dx, _gradient(small.corners))
        return None, None, dx, *(leaf.grad for leaf in weights)


def _passes(of: Kernel, x: Tensor, weights: tuple[Tensor, ...]) -> Passes:
    return Passes(of, x, x.shape[-1] // len(weights[1]))


def _gates(means: Tensor, weights: Weights) -> Tensor:
    """sigmoid(conv1x1) of the means of rows and columns."""
    groups = torch.unflatten(means, -1, (-1, len(weights.mix_bias)))
    mixed = F.linear(groups, weights.mix.flatten(1), weights.mix_bias)
    return mixed.sigmoid().flatten(-2)


def _mix(small: _Small, weights: Weights, epsilon: float, height: int) -> Mixed:
    width = len(weights.norm)
    variance = torch.unflatten(small.variance, -1, (-1, width))  # (B, G, w)
    window = weights.window.flatten(1)  # (w, 9 w)
    a = weights.norm_bias.softmax(0)
    means = _windows(small.means, small.corners, height)
    means = torch.unflatten(means, -1, (-1, width)).permute(0, 2, 3, 1).flatten(2)
    b = F.linear(means, window, weights.window_bias).softmax(-1)
    scale = b * weights.norm * (variance + epsilon).rsqrt()
    shift = b * weights.norm_bias + a * weights.window_bias
    kernel = (a @ window).view(width, 9).t()
    return Mixed(kernel.repeat(1, b.shape[1]), scale.flatten(1), shift.flatten(1))


def _windows(means: Tensor, corners: Tensor, height: int) -> Tensor:
    """(B, 9, C): means of x, moved by one to each side and filled up with zeros.

    Each is the mean of x less the row and the column that left the image.
    """
    width = means.shape[1] - height
    rows, columns = means[:, :height] / height, means[:, height:] / width
    mean = rows.sum(1)
    none = torch.zeros_like(mean)
    row = torch.stack([rows[:, -1], none, rows[:, 0]], 1)
    column = torch.stack([columns[:, -1], none, columns[:, 0]], 1)
    both = torch.zeros_like(row)[:, :, None].repeat(1, 1, 3, 1)
    both[:, ::2, ::2] = corners / (height * width)
    left = mean[:, None, None] - row[:, :, None] - column[:, None] + both
    return left.flatten(1, 2)


def _corners(x: Tensor) -> Tensor:
    """The last and first pixels of the last and first rows, (B, 2, 2, C), float32."""
    pixels = [x[:, i, j] for i in (-1, 0) for j in (-1, 0)]
    return torch.stack(pixels, 1).float().view(len(x), 2, 2, -1)


def _add_to_corners(dx: Tensor, corners: Tensor) -> None:
    for i in (-1, 0):
        for j in (-1, 0):
            dx[:, i, j] += corners[:, i + 1, j + 1]


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad
