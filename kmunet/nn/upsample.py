"""Bilinear up-sampling whose gradient is the same at every run, also on a GPU.

torch's own gradient adds atomically there. Asked for determinism, F.interpolate
gathers by index instead and sorts in its backward pass: 60 operations, here 11. On a
CPU torch's takes two to six times as long for a single channel, such as a head's.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, C, factor H, factor W), as F.interpolate does by default.

    First derivatives only, but for several channels on a CPU.
    """
    if _own_gradient(x):
        y: Tensor = _Bilinear.apply(x, factor)  # type: ignore[no-untyped-call]
        return y
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear")


def _own_gradient(x: Tensor) -> bool:
    """On a CPU torch's is one pass and deterministic, and fast for many channels."""
    return not x.is_cpu or x.shape[1] == 1


class _Bilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor, ctx.channels_last = factor, not x.is_contiguous()
        # Past F.interpolate, to torch's kernel: one pass, without atomics.
        scales = [float(factor)] * 2
        return torch.ops.aten.upsample_bilinear2d.vec(x, None, False, scales)  # type: ignore[no-any-return]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return transposed(grad, ctx.factor, ctx.channels_last), None


def transposed(grad: Tensor, factor: int, channels_last: bool) -> Tensor:
    """(B, C, factor H, factor W) -> (B, C, H, W): `upsample` as a matrix, transposed.

    Rows, then columns, by products with small dense matrices: most of each is zeros,
    but it is one kernel for any factor, sums in a fixed order and, of half precision,
    in float32. `channels_last` is the memory format of what is returned.
    """
    batch, channels, tall, wide = grad.shape
    height, width = tall // factor, wide // factor
    # A compiler cannot see into a cache, and folds what it traces.
    matrix = _matrix.__wrapped__ if torch.compiler.is_compiling() else _matrix
    rows = matrix(height, factor, grad.dtype, grad.device)
    columns = matrix(width, factor, grad.dtype, grad.device)
    if channels_last:
        x = grad.permute(0, 2, 3, 1).contiguous().view(batch, tall, wide * channels)
        x = torch.bmm(rows.expand(batch, -1, -1), x)
        x = x.view(batch * height, wide, channels)
        x = torch.bmm(columns.expand(batch * height, -1, -1), x)
        return x.view(batch, height, width, channels).permute(0, 3, 1, 2)
    planes = batch * channels
    x = grad.contiguous().view(planes, tall, wide)
    x = torch.bmm(rows.expand(planes, -1, -1), x).view(planes * height, wide)
    return torch.mm(x, columns.t()).view(batch, channels, height, width)


@lru_cache(maxsize=64)
def _matrix(size: int, factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, factor size): what becomes of each unit vector, in torch's own weights."""
    units = torch.eye(size, dtype=dtype, device=device)
    return F.interpolate(units[None], scale_factor=float(factor), mode="linear")[0]
