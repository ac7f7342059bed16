"""Another grid for a spline: where the data lie, and coefficients for the same curve.

Liu et al., KAN (arXiv 2404.19756), section 2.3 and appendix A.1: knots follow the
quantiles of the data, mixed with a uniform grid; the curve is then fitted anew by
least squares at the data.
"""

from itertools import accumulate

import torch
from torch import Tensor

from kmunet.ops.minimum_norm import inverse


def adapted_grid(
    x: Tensor, size: int, order: int, margin: float, uniform: float
) -> Tensor:
    """Knots (F, size + 1 + 2 order) for data x (N, F), increasing.

    `uniform` in [0, 1]: 1 gives equal steps, 0 the quantiles of the data, between mixes
    them. The grid reaches `margin` beyond the data at both ends, and goes on by
    `order` equal steps. Margin and data of no width still give increasing knots.
    """
    ordered = x.sort(dim=0).values.double()
    low, high = ordered[0] - margin, ordered[-1] + margin
    # Never empty: repeated values would make steps of 0, and bases of 0 / 0.
    floor = 1e-3 * (1 + torch.maximum(low.abs(), high.abs()))
    width = torch.maximum(high - low, floor)
    centre, share = (low + high) / 2, torch.linspace(0, 1, size + 1).to(x.device)
    share = share.double()
    even = centre - width / 2 + width * share[:, None]
    places = (share * (len(x) - 1)).round().long()  # in float32 not exact beyond 2^24
    by_data = ordered[places]
    by_data[0], by_data[-1] = even[0], even[-1]
    inner = uniform * even + (1 - uniform) * by_data
    least = (1e-2 * width / size)[None]
    inner = _at_least(inner, least)
    step = (inner[-1] - inner[0]) / size
    count = torch.arange(1, order + 1, device=x.device)[:, None]
    knots = [inner[0] - step * count.flip(0), inner, inner[-1] + step * count]
    return torch.cat(knots).T.contiguous().to(x.dtype)


def _at_least(knots: Tensor, least: Tensor) -> Tensor:
    """The same ends (P, F) with every step at least `least` (1, F), order kept."""
    steps = knots.diff(dim=0).clamp_min(least)
    steps = steps * ((knots[-1] - knots[0]) / steps.sum(0))
    # One by one: a GPU's cumulative sum is not deterministic.
    return torch.stack(list(accumulate(steps, initial=knots[0])))


def refit(new: Tensor, old: Tensor, coefficients: Tensor) -> Tensor:
    """Coefficients (O, F, K') over new bases of least squares to the old curves.

    new (N, F, K') and old (N, F, K) bases at the same points, coefficients (O, F, K).
    Normal equations in float64, sums elementwise: the same bits on every run. A small
    ridge gives 0 to bases that no point reaches.
    """
    new, old = new.double(), old.double()
    gram, cross = _inner(new, new), _inner(new, old)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = 1e-9 * diagonal.mean(1, keepdim=True).clamp_min(1e-12)
    diagonal += ridge
    across = _product(inverse(gram), cross)  # (F, K', K)
    curves = coefficients.double()
    fitted = [(curves * row).sum(-1) for row in across.unbind(1)]
    return torch.stack(fitted, dim=-1).to(coefficients.dtype)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """(N, F, I), (N, F, J) -> sums over the points (F, I, J)."""
    return torch.stack([(a[..., i, None] * b).sum(0) for i in range(a.shape[2])], 1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """(F, I, K) and (F, K, J) -> (F, I, J)."""
    return (a[..., None] * b[:, None]).sum(2)
