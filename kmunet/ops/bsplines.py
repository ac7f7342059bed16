"""B-spline bases: the Cox-de Boor recursion, and the closed form on a uniform grid.

de Boor, A Practical Guide to Splines, chapter IX. On a uniform grid of step h every
cubic basis is the cardinal spline N moved: with w = |(x - t_i) / h - 2|,
N(w) = (2 - w)_+^3 / 6 - 2/3 (1 - w)_+^3.
"""

from typing import Any

import torch
from torch import Tensor


def b_spline_bases(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """All bases of degree `order` at x, by recursion over the degree.

    x (..., F) and grid (F, K) of increasing knots give (..., F, K - 1 - order).
    Outside the grid every basis is 0.
    """
    x = x[..., None]
    bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for k in range(1, order + 1):
        left, right = grid[:, : -k - 1], grid[:, k + 1 :]
        rising = (x - left) / (grid[:, k:-1] - left)
        falling = (right - x) / (right - grid[:, 1:-k])
        bases = rising * bases[..., :-1] + falling * bases[..., 1:]
    return bases


def uniform_cubic_bases(x: Tensor, grid: Tensor) -> Tensor:
    """The same for degree 3 where each row of the grid is uniform (`is_uniform`).

    Keeps x alone for its backward pass; first derivatives, and of x only.
    """
    bases: Tensor = _UniformCubic.apply(x, grid)  # type: ignore[no-untyped-call]
    return bases


class _UniformCubic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(x, grid)
        w = _offsets(x, grid)[0].abs_()
        outer, inner = (2 - w).clamp_min_(0), (1 - w).clamp_min_(0)
        outer = (outer * outer).mul_(outer).div_(6)
        return outer.addcmul_(inner * inner, inner, value=-2 / 3)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, grid = ctx.saved_tensors
        return uniform_cubic_slopes(x, grid).mul_(grad).sum(-1), None


def uniform_cubic_slopes(x: Tensor, grid: Tensor) -> Tensor:
    """Derivatives by x of `uniform_cubic_bases` (..., F, K)."""
    signed, inverse_step = _offsets(x, grid)
    w = signed.abs()
    outer, inner = (2 - w).clamp_min_(0), w.neg_().add_(1).clamp_min_(0)
    slope = (inner * inner).mul_(2).addcmul_(outer, outer, value=-0.5)
    return slope.mul_(signed.sign_()).mul_(inverse_step[:, None])


def _offsets(x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """(x - t_i) / h - 2 for each basis i (..., F, K), and 1 / h (F)."""
    knots = grid.shape[1]
    start = grid[:, 0]
    inverse_step = (knots - 1) / (grid[:, -1] - start)
    centres = torch.arange(2, knots - 2, dtype=x.dtype, device=x.device)
    return ((x - start) * inverse_step)[..., None] - centres, inverse_step


def is_uniform(grid: Tensor) -> bool:
    """Whether each row's steps are equal to within rounding of the grid's own dtype.

    A float32 grid cast to float64 is not: there the recursion keeps the last digits.
    """
    steps = grid.diff(dim=1)
    size = grid.abs().amax(dim=1, keepdim=True)
    error = (steps - steps.mean(dim=1, keepdim=True)).abs()
    return bool((error <= 4 * torch.finfo(grid.dtype).eps * size).all())
