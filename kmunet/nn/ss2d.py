"""SS2D: the visual state-space block of VMamba (arXiv 2401.10166), figure 2d.

in_proj -> (x, z); x -> depthwise conv, SiLU, 2-D selective scan, LayerNorm;
out_proj(x * SiLU(z)).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.nn.norm import norm_gate
from kmunet.ops import linear, selective_scan_2d

DIRECTIONS = 4


class SS2D(nn.Module):
    """(B, C, H, W) -> the same shape, every pixel having seen all others.

    Inside there are `expand` * C channels of `states` states each; the steps dt come
    through a bottleneck of rank ceil(C / 16).
    """

    def __init__(self, channels: int, states: int = 16, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(
            torch.empty(DIRECTIONS, rank + 2 * states, inner)
        )
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.empty(DIRECTIONS * inner, states))
        self.Ds = nn.Parameter(torch.empty(DIRECTIONS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.reset_scan()

    @torch.no_grad()
    def reset_scan(self, dt_min: float = 1e-3, dt_max: float = 1e-1) -> None:
        """Mamba's initial values: A = -(1..N), D = 1, softplus(bias) log-uniform."""
        inner, rank = self.dt_projs_weight.shape[1:]
        # As nn.Linear starts its weight.
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(rank**-0.5), rank**-0.5)
        low, high = math.log(dt_min), math.log(dt_max)
        dt = torch.exp(torch.rand_like(self.dt_projs_bias) * (high - low) + low)
        self.dt_projs_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus^-1
        states = self.A_logs.shape[1]
        self.A_logs.copy_(torch.arange(1, states + 1).to(self.A_logs).log())
        nn.init.ones_(self.Ds)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        # Two products rather than two halves of one: each lies dense in memory.
        to_x, to_z = self.in_proj.weight.chunk(2)
        x, z = linear(pixels, to_x), linear(pixels, to_z)
        x = F.silu(self.conv2d(x.permute(0, 3, 1, 2)))
        y = selective_scan_2d(
            x,
            self.x_proj_weight,
            self.dt_projs_weight,
            self.dt_projs_bias,
            self.A_logs,
            self.Ds,
        )
        y = norm_gate(y.permute(0, 2, 3, 1), z, self.out_norm)
        to_out = self.out_proj.weight
        return linear(y.to(to_out.dtype), to_out).permute(0, 3, 1, 2)
