"""A KAN layer on a uniform grid as matrix products, with little kept for backward.

y = [SiLU(x), N_0(x), ..., N_K-1(x)] W^T with W = [base, scaler * spline]: the left side
is nine times x, so backward computes it again from x instead of keeping it.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.bsplines import uniform_cubic_bases, uniform_cubic_slopes
from kmunet.ops.cpu import kan
from kmunet.ops.cpu.native import Kernel, kernel_for
from kmunet.ops.matrix import linear, linear_gradients

# Longer sums in float32 lose digits; parts of them are added instead.
LONGEST_SUM = 512


def kan_product(
    x: Tensor,
    base: Tensor,
    spline: Tensor,
    scaler: Tensor,
    grid: Tensor,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """x (..., F) -> (..., O), cubic splines on a grid with `is_uniform(grid)`.

    base, scaler (O, F); spline (O, F, K); grid (F, K + 4). All of one dtype, in which
    SiLU and splines are computed; their products and y in `product_dtype`, if given.
    First derivatives only, none of the grid.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    dtype = product_dtype or x.dtype
    y: Tensor = _KanProduct.apply(rows, base, spline, scaler, grid, dtype)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], len(base))


def fused_kan_weight(base: Tensor, spline: Tensor, scaler: Tensor) -> list[Tensor]:
    """The weight of `kan_product` in the parts in which it is multiplied."""
    weight = _weight(base, spline, scaler)
    return [weight[:, i:j].flatten(1).contiguous() for i, j in _parts(weight)]


def fused_kan_product(x: Tensor, parts: list[Tensor], grid: Tensor) -> Tensor:
    """`kan_product` with the weight as `fused_kan_weight` has it; no gradients."""
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    of = _kernel(rows)
    if of is None:
        y = linear(_features(rows, grid).flatten(1), torch.cat(parts, 1))
        return y.reshape(*x.shape[:-1], len(parts[0]))
    y = _sum_of_products(of, rows, grid, parts, len(parts[0]))
    return y.reshape(*x.shape[:-1], len(parts[0]))


def _sum_of_products(
    of: Kernel, x: Tensor, grid: Tensor, parts: Iterable[Tensor], outputs: int
) -> Tensor:
    """Features of x (rows, F) times each part (O, n F) of a weight, in its dtype."""
    y, steps, first = x.new_zeros(len(x), outputs), _steps(grid), 0
    for part in parts:
        last = first + part.shape[1] // x.shape[1]
        features = kan.features(of, x, first, last, *steps).flatten(1)
        y += linear(features.to(part.dtype), part)
        first = last
    return y


class _KanProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        base: Tensor,
        spline: Tensor,
        scaler: Tensor,
        grid: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(x, base, spline, scaler, grid)
        ctx.dtype = dtype
        of, weight = _kernel(x), _weight(base, spline, scaler)
        low = weight.to(dtype)
        if of is None:
            return linear(_features(x, grid).flatten(1).to(dtype), low.flatten(1))
        parts = (low[:, i:j].flatten(1) for i, j in _parts(weight))
        return _sum_of_products(of, x, grid, parts, len(base)).to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, base, spline, scaler, grid = ctx.saved_tensors
        weight = _weight(base, spline, scaler)
        grad = grad.to(ctx.dtype).contiguous()
        dx, d_weight = _gradients(x, grid, weight, grad)
        d_spline = d_weight[:, 1:].transpose(1, 2)  # (O, F, K)
        d_scaler = (d_spline * spline).sum(-1)
        return dx, d_weight[:, 0], d_spline * scaler[..., None], d_scaler, None, None


def _gradients(
    x: Tensor, grid: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Of x (rows, F) and of the weight (O, 1 + K, F); products in the dtype of grad."""
    of, low = _kernel(x), weight.to(grad.dtype)
    if of is None:
        features = _features(x, grid).flatten(1).to(grad.dtype)
        by_feature, d_weight = linear_gradients(features, low.flatten(1), grad)
        by_feature = by_feature.to(x.dtype).view(len(x), *weight.shape[1:])
        return _gradient(x, grid, by_feature), d_weight.to(x.dtype).view_as(weight)
    dx, d_weight, steps = torch.empty_like(x), torch.empty_like(weight), _steps(grid)
    for first, last in _parts(weight):
        features = kan.features(of, x, first, last, *steps)
        own, left = low[:, first:last].flatten(1), features.flatten(1).to(grad.dtype)
        by_feature, d_own = linear_gradients(left, own, grad)
        d_weight[:, first:last] = d_own.view(len(own), last - first, -1)
        by_feature = by_feature.to(x.dtype).view_as(features)
        kan.add_gradient(of, dx, x, first, *steps, by_feature)
    return dx, d_weight


def _weight(base: Tensor, spline: Tensor, scaler: Tensor) -> Tensor:
    """(O, 1 + K, F)."""
    scaled = spline * scaler[..., None]
    return torch.cat([base[:, None], scaled.transpose(1, 2)], dim=1)


def _parts(weight: Tensor) -> list[tuple[int, int]]:
    _, count, inputs = weight.shape
    size = max(1, LONGEST_SUM // inputs)
    return [(i, min(i + size, count)) for i in range(0, count, size)]


def _features(x: Tensor, grid: Tensor) -> Tensor:
    """SiLU(x) and all bases (rows, 1 + K, F)."""
    bases = uniform_cubic_bases(x, grid).transpose(1, 2)
    return torch.cat([F.silu(x)[:, None], bases], dim=1)


def _gradient(x: Tensor, grid: Tensor, grad: Tensor) -> Tensor:
    """From the gradient of the features, that of x."""
    s = x.sigmoid()
    silu = s * (1 + x * (1 - s))
    slopes = uniform_cubic_slopes(x, grid)
    return grad[:, 0] * silu + (slopes * grad[:, 1:].transpose(1, 2)).sum(-1)


def _kernel(x: Tensor) -> Kernel | None:
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.numel():
        return None
    return kernel_for(x)


def _steps(grid: Tensor) -> tuple[Tensor, Tensor]:
    """First knot and inverse step of each input."""
    start = grid[:, 0].contiguous()
    return start, (grid.shape[1] - 1) / (grid[:, -1] - start)
