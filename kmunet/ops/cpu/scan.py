"""The one-dimensional scan on the kernel: each group of channels is a direction."""

from typing import Any

import torch
from torch import Tensor

from kmunet.ops import chunked
from kmunet.ops.cpu.native import Kernel, Problem, required
from kmunet.ops.shapes import grouped


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """As `kmunet.ops.selective_scan`, in float32; float64 goes to the chunked scan.

    First derivatives only. Raises ValueError for shapes that do not fit.
    """
    if u.dtype == torch.float64:
        return chunked.selective_scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    scanned = (u, delta, A, B, C, D, delta_bias, delta_softplus)
    return scan_with(required(), *scanned)


def scan_with(
    of: Kernel,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """The same with a given build of the kernel, for any dtype."""
    B, C = grouped(u, delta, A, B, C)
    proj = torch.cat([B, C], dim=2).permute(0, 3, 1, 2)  # (B, L, G, 2N)
    given = (u.transpose(1, 2), delta.transpose(1, 2), A, proj, D, delta_bias)
    # Casts stay outside, so that autograd returns each gradient in its own dtype.
    single = (t if t is None else t.float() for t in given)
    y: Tensor = _Scan.apply(of, *single, delta_softplus)  # type: ignore[no-untyped-call]
    return y.transpose(1, 2).to(u.dtype)


class _Scan(torch.autograd.Function):
    """On x, delta (B, L, D) and [B, C] (B, L, G, 2N)."""

    @staticmethod
    def forward(
        ctx: Any,
        of: Kernel,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        proj: Tensor,
        D: Tensor | None,
        bias: Tensor | None,
        softplus: bool,
    ) -> Tensor:
        given = {"x": x, "delta": delta, "A": A, "proj": proj, "skip": D, "bias": bias}
        inputs = {k: t if t is None else t.contiguous() for k, t in given.items()}
        batch, length, channels = x.shape
        groups, states = proj.shape[2], A.shape[1]
        problem = Problem(
            *(batch, groups, channels // groups, 1, length, states, 0),
            shared=False,
            softplus=softplus,
        )
        kept = of.kept(problem) if any(ctx.needs_input_grad) else None
        y = torch.empty(x.shape)
        of.forward(problem, **inputs, y=y, kept=kept)
        ctx.save_for_backward(*inputs.values(), kept)
        ctx.kernel, ctx.problem = of, problem
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *values, kept = ctx.saved_tensors
        inputs = dict(zip(NAMES, values, strict=True))
        found = {f"d{k}": _room(t) for k, t in inputs.items()}
        dy = grad.contiguous()
        ctx.kernel.backward(ctx.problem, **inputs, kept=kept, dy=dy, **found)
        return (None, *found.values(), None)


NAMES = ("x", "delta", "A", "proj", "skip", "bias")


def _room(like: Tensor | None) -> Tensor | None:
    return None if like is None else torch.empty_like(like)
