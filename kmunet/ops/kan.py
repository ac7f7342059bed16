"""A KAN layer on a uniform grid as one matrix product, with little kept for backward.

y = [SiLU(x), N_0(x), ..., N_K-1(x)] W^T with W = [base, scaler * spline]: the left side
is nine times x, so backward computes it again from x instead of keeping it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.bsplines import uniform_cubic_bases, uniform_cubic_slopes
from kmunet.ops.cpu import kan
from kmunet.ops.cpu.native import Kernel, kernel
from kmunet.ops.matrix import linear, linear_gradients


def kan_product(
    x: Tensor, base: Tensor, spline: Tensor, scaler: Tensor, grid: Tensor
) -> Tensor:
    """x (..., F) -> (..., O), cubic splines on a grid with `is_uniform(grid)`.

    base, scaler (O, F); spline (O, F, K); grid (F, K + 4). All of one dtype. First
    derivatives only, none of the grid.
    """
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _KanProduct.apply(rows, base, spline, scaler, grid)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], -1)


class _KanProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor, spline: Tensor, scaler: Tensor, grid: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, base, spline, scaler, grid)
        weight = _weight(base, spline, scaler)
        return linear(_features(x, grid).flatten(1), weight.flatten(1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, base, spline, scaler, grid = ctx.saved_tensors
        weight, features = _weight(base, spline, scaler), _features(x, grid)
        found = linear_gradients(features.flatten(1), weight.flatten(1), grad)
        del features
        dx = _gradient(x, grid, found[0].view(len(x), *weight.shape[1:]))
        d_weight = found[1].view_as(weight)
        d_spline = d_weight[:, 1:].transpose(1, 2)  # (O, F, K)
        d_scaler = (d_spline * spline).sum(-1)
        return dx, d_weight[:, 0], d_spline * scaler[..., None], d_scaler, None


def _weight(base: Tensor, spline: Tensor, scaler: Tensor) -> Tensor:
    """(O, 1 + K, F)."""
    scaled = spline * scaler[..., None]
    return torch.cat([base[:, None], scaled.transpose(1, 2)], dim=1)


def _features(x: Tensor, grid: Tensor) -> Tensor:
    """SiLU(x) and all bases (rows, 1 + K, F)."""
    compiled = _kernel(x)
    if compiled is not None:
        return kan.features(compiled, x, grid.shape[1] - 4, *_steps(grid))
    bases = uniform_cubic_bases(x, grid).transpose(1, 2)
    return torch.cat([F.silu(x)[:, None], bases], dim=1)


def _gradient(x: Tensor, grid: Tensor, grad: Tensor) -> Tensor:
    """From the gradient of the features, that of x."""
    compiled = _kernel(x)
    if compiled is not None:
        return kan.gradient(compiled, x, *_steps(grid), grad)
    s = x.sigmoid()
    silu = s * (1 + x * (1 - s))
    slopes = uniform_cubic_slopes(x, grid)
    return grad[:, 0] * silu + (slopes * grad[:, 1:].transpose(1, 2)).sum(-1)


def _kernel(x: Tensor) -> Kernel | None:
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.numel():
        return None
    return None if torch.compiler.is_compiling() else kernel()


def _steps(grid: Tensor) -> tuple[Tensor, Tensor]:
    """First knot and inverse step of each input."""
    start = grid[:, 0].contiguous()
    return start, (grid.shape[1] - 1) / (grid[:, -1] - start)
