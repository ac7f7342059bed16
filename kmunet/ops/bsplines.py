"""B-spline bases: the Cox-de Boor recursion, and the closed form on a uniform grid.

de Boor, A Practical Guide to Splines, chapter IX. On a uniform grid of step h every
cubic basis is the cardinal spline N moved: with w = |(x - t_i) / h - 2|,
N(w) = (2 - w)_+^3 / 6 - 2/3 (1 - w)_+^3.
"""

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
    """The same for degree 3 where each row of the grid is uniform (`is_uniform`)."""
    knots = grid.shape[1]
    start = grid[:, 0]
    inverse_step = (knots - 1) / (grid[:, -1] - start)
    centres = torch.arange(2, knots - 2, dtype=x.dtype, device=x.device)
    w = (((x - start) * inverse_step)[..., None] - centres).abs()
    outer = (2 - w).clamp_min(0)
    inner = (1 - w).clamp_min(0)
    return outer * outer * outer / 6 - inner * inner * inner * (2 / 3)


def is_uniform(grid: Tensor) -> bool:
    """Whether each row's steps are equal to within rounding of the grid's own dtype.

    A float32 grid cast to float64 is not: there the recursion keeps the last digits.
    """
    steps = grid.diff(dim=1)
    size = grid.abs().amax(dim=1, keepdim=True)
    error = (steps - steps.mean(dim=1, keepdim=True)).abs()
    return bool((error <= 4 * torch.finfo(grid.dtype).eps * size).all())
