"""The scans of `kmunet.ops.backend` on Triton: layouts in, gradients out."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.errors import ConfigError
from kmunet.ops.backend import Inputs, Optional
from kmunet.ops.triton.plan import plan
from kmunet.ops.triton.problem import Problem
from kmunet.ops.triton.products import by_direction
from kmunet.ops.triton.tuning import INTERPRETED


class TritonScan:
    """As `Kernels`: each group of channels is a direction of its own."""

    def kept_size(self, batch: int, length: int, channels: int, *more: int) -> int:
        """By the sizes B, L, D, N, G."""
        states, groups = more
        cut = plan(length, channels // groups)
        return batch * channels * states * cut.chunks(length) * cut.tiles()

    def forward(
        self, tensors: Optional, softplus: bool, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """y (B, D, L) of the dtype of u, a view of (B, L, D)."""
        y, kept = _problem(tensors, softplus).forward(keep)
        return y.transpose(1, 2), kept

    def backward(
        self, grad: Tensor, tensors: Optional, kept: Tensor, softplus: bool
    ) -> Optional:
        """Gradients of u, delta, A, B, C, D and the bias."""
        dy = grad.transpose(1, 2).contiguous()
        found = _problem(tensors, softplus).backward(dy, kept)
        dB, dC = found["bc"].permute(0, 2, 3, 1).chunk(2, dim=2)
        ddelta = found["delta"].flatten(2).transpose(1, 2)
        D, bias = tensors[5:]
        skip = None if D is None else found["skip"]
        return (
            found["x"].transpose(1, 2),
            ddelta,
            found["A"],
            dB,
            dC,
            skip,
            None if bias is None else found["bias"],
        )


def _problem(tensors: Optional, softplus: bool) -> Problem:
    u, delta, A, B, C, D, bias = cast(Any, tensors)
    check_device(u)
    groups, length = B.shape[1], u.shape[2]
    x, steps = (t.transpose(1, 2).contiguous() for t in (u, delta))
    proj = torch.cat([B, C], dim=2).permute(0, 3, 1, 2).contiguous()
    D, bias = (t if t is None else t.float().contiguous() for t in (D, bias))
    return Problem(
        x=x,
        delta=steps,
        proj=proj,
        A=A.float().contiguous(),
        weight=None,
        bias=bias,
        skip=D,
        height=1,
        width=length,
        directions=groups,
        rank=0,
        softplus=softplus,
        shared=False,
        plan=plan(length, x.shape[2] // groups),
    )


class TritonScan2d:
    """As `Kernels2d`: four orders of the same pixels, read and written in place."""

    keeps_projections = True

    def kept_size(self, sizes: Sequence[int], states: int, rank: int) -> int:
        """By the sizes (B, H, W, D) of the pixels, N and R."""
        batch, height, width, channels = sizes
        cut = plan(height * width, channels)
        chunks = cut.chunks(height * width) * cut.tiles()
        return batch * 4 * channels * states * chunks

    def forward(
        self, tensors: Inputs, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """y (B, H, W, D), the projections, and states for the backward pass."""
        pixels, x_proj_weight, *others = tensors
        proj = F.linear(pixels.float(), x_proj_weight.flatten(0, 1))
        y, kept = _problem_2d(pixels, proj, *others).forward(keep)
        return y.view(pixels.shape), proj, kept

    def backward(
        self, grad: Tensor, tensors: Inputs, proj: Tensor | None, kept: Tensor
    ) -> Inputs:
        """Gradients of the pixels and of the five weights."""
        assert proj is not None
        pixels, x_proj_weight, *others = tensors
        problem = _problem_2d(pixels, proj, *others)
        found = problem.backward(grad.contiguous(), kept)
        weight, rows = others[0], pixels.flatten(0, 2).float()
        steps = torch.unflatten(proj, 3, (4, -1))[..., : problem.rank].flatten(0, 2)
        ddelta = found["delta"].flatten(0, 1)  # (B L, 4, D)
        dsteps = torch.einsum("pkd,kdr->pkr", ddelta, weight)
        dproj = torch.cat([dsteps, found["bc"].flatten(0, 1)], dim=2).flatten(1)
        dx = found["x"].view(rows.shape).addmm_(dproj, x_proj_weight.flatten(0, 1))
        A = problem.A
        return (
            dx.view(pixels.shape),
            (dproj.t() @ rows).view_as(x_proj_weight),
            by_direction(ddelta, steps),
            found["bias"].view_as(others[1]),
            found["A"] * A,
            found["skip"],
        )


def _problem_2d(pixels: Tensor, proj: Tensor, *others: Tensor) -> Problem:
    weight, bias, A_logs, Ds = others
    check_device(pixels)
    _, height, width, channels = pixels.shape
    return Problem(
        x=pixels,
        delta=None,
        proj=proj,
        A=-torch.exp(A_logs),
        weight=weight,
        bias=bias,
        skip=Ds,
        height=height,
        width=width,
        directions=4,
        rank=weight.shape[2],
        softplus=True,
        shared=True,
        plan=plan(height * width, channels),
    )


def check_device(x: Tensor) -> None:
    """Raise ConfigError where the kernels, as imported, cannot run on the tensor."""
    on_cpu = x.device.type == "cpu"
    if INTERPRETED and not on_cpu:
        raise ConfigError(
            "Triton's kernels were imported with TRITON_INTERPRET=1, for a CPU: "
            f"start again without it to scan on {x.device.type}"
        )
    if on_cpu and not INTERPRETED:
        raise ConfigError(
            "scan backend 'triton' needs a CUDA device (on a CPU only Triton's "
            "interpreter, TRITON_INTERPRET=1 from the start): choose 'auto'"
        )
