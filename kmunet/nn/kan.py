"""KANLinear: a learned spline on every edge (KAN, arXiv 2404.19756, equation 2.10).

y_j = sum_i base_ji SiLU(x_i) + scaler_ji sum_k spline_jik N_k(x_i), with cubic
B-splines N_k on a fixed grid. Names and initial values as in efficient-kan.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.ops import (
    adapted_grid,
    b_spline_bases,
    full_precision,
    fused_kan_product,
    fused_kan_weight,
    is_uniform,
    kan_product,
    linear,
    minimum_norm_fit,
    product_dtype,
    refit,
    uniform_cubic_bases,
)


class KANLinear(nn.Module):
    """(..., in_features) -> (..., out_features), each edge a spline plus SiLU.

    The spline is 0 outside the extended grid, where SiLU alone is left. Raises
    ValueError for a grid without intervals and for splines of steps, without slopes.
    """

    grid: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        scale_noise: float = 0.1,
    ) -> None:
        super().__init__()
        if grid_size < 1 or spline_order < 1:
            raise ValueError(
                "grid_size and spline_order must be at least 1 (steps have no slope),"
                f" not {grid_size} and {spline_order}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.grid_size, self.spline_order = grid_size, spline_order
        self.grid_range = grid_range
        self.register_buffer("grid", self._uniform_grid())
        edges = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(edges))
        self.spline_weight = nn.Parameter(torch.empty(*edges, grid_size + spline_order))
        self.spline_scaler = nn.Parameter(torch.empty(edges))
        self._checked: tuple[Tensor, int] | None = None
        self._closed_form = False
        self._fused: list[Tensor] | None = None
        self.reset_parameters(scale_noise)
        self._has_closed_form()
        self.register_load_state_dict_post_hook(_look_at_the_grid)  # type: ignore[no-untyped-call]

    def _uniform_grid(self) -> Tensor:
        low, high = self.grid_range
        order, size = self.spline_order, self.grid_size
        knots = torch.arange(-order, size + order + 1) * ((high - low) / size) + low
        return knots.expand(self.in_features, -1).contiguous()

    @torch.no_grad()
    def reset_parameters(self, scale_noise: float = 0.1) -> None:
        """Kaiming-uniform base and scaler; splines through small noise at the knots.

        The grid becomes again what it was at first.
        """
        self.grid.copy_(self._uniform_grid())
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        noise = torch.rand(self.grid_size + 1, self.in_features, self.out_features)
        noise = ((noise - 0.5) * (scale_noise / self.grid_size)).to(self.grid)
        inner = self.grid[:, self.spline_order : -self.spline_order]
        bases = b_spline_bases(inner.T, self.grid, self.spline_order)
        fitted = minimum_norm_fit(bases.transpose(0, 1), noise.transpose(0, 1))
        self.spline_weight.copy_(fitted.permute(2, 0, 1))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))
        self._fused = None

    def bases(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., in, K), by the closed form where the grid allows it."""
        if self._has_closed_form():
            return uniform_cubic_bases(x, self.grid)
        return b_spline_bases(x, self.grid, self.spline_order)

    def _has_closed_form(self) -> bool:
        # The answer stands until the buffer is replaced or written to; a compiler does
        # not see its values, and on the device "meta" or in a fake one there are none.
        grid = self.grid
        if torch.compiler.is_compiling() or grid.is_meta or type(grid) is not Tensor:
            return self._closed_form
        version = 0 if grid.is_inference() else grid._version
        checked = self._checked
        if checked is None or checked[0] is not grid or checked[1] != version:
            self._closed_form = self.spline_order == 3 and is_uniform(grid)
            self._checked = (grid, version)
        return self._closed_form

    def forward(self, x: Tensor) -> Tensor:
        # A spline's argument needs more digits than a factor of a product.
        low = product_dtype(x.device.type)
        with full_precision(x.device.type):
            x = x.to(self.base_weight.dtype)
            weights = (self.base_weight, self.spline_weight, self.spline_scaler)
            if self._has_closed_form():
                learning = torch.is_grad_enabled() and x.requires_grad
                if self._fused and low is None and x.is_cpu and not learning:
                    return fused_kan_product(x, self._fused, self.grid)
                return kan_product(x, *weights, self.grid, low)
            spline = self.spline_weight * self.spline_scaler[..., None]
            factors = (F.silu(x), self.base_weight, self.bases(x).flatten(-2),
                       spline.flatten(1))  # fmt: skip
            silu, base, bases, spline = (f.to(low or f.dtype) for f in factors)
            return linear(silu, base) + linear(bases, spline)

    @torch.no_grad()
    def fuse(self) -> None:
        """For inference alone: the product's weight, made once. See fused.py."""
        weights = (self.base_weight, self.spline_weight, self.spline_scaler)
        self._fused = fused_kan_weight(*weights) if self._has_closed_form() else None

    @torch.no_grad()
    def update_grid(
        self, x: Tensor, margin: float = 0.01, uniform: float = 0.02
    ) -> None:
        """Move the grid to where x (..., in) lies, and fit the same curves on it.

        KAN, section 2.3; efficient-kan's `update_grid`. At x the function stays, up to
        what splines on the new grid can follow. A grid that is not uniform runs by the
        recursion, which is slower. Raises ValueError for x without finite rows.
        """
        x = x.reshape(-1, self.in_features).to(self.grid)
        x = x[x.isfinite().all(1)]
        if not len(x):
            raise ValueError("update_grid needs at least one row of finite inputs")
        order = self.spline_order
        grid = adapted_grid(x, self.grid_size, order, margin, uniform)
        new, old = (b_spline_bases(x.double(), g.double(), order)
                    for g in (grid, self.grid))  # fmt: skip
        self.spline_weight.copy_(refit(new, old, self.spline_weight))
        self.grid.copy_(grid)
        self._fused = None
        self._has_closed_form()

    @torch.no_grad()
    def share_outside(self, x: Tensor) -> float:
        """The share of the numbers in x (..., in) outside the grid, NaN too; 0 to 1.

        There the splines fade to 0 and SiLU is left: a grid to be updated, or inputs
        to be normalised.
        """
        order = self.spline_order
        low, high = self.grid[:, order], self.grid[:, -order - 1]
        return (~((x >= low) & (x <= high))).double().mean().item()

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def _look_at_the_grid(layer: KANLinear, _: object) -> None:
    layer._fused = None
    layer._has_closed_form()
