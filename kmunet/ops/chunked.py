"""The selective scan in plain torch, in chunks of time, with its own backward pass.

Inside a chunk everything that does not depend on the state before is one operation
over the chunk; only h_t = a_t h_(t-1) + b_t is a loop, over lanes (batch, group,
state, channel). The forward pass keeps the state at the start of each chunk, from
which the backward pass recomputes the others. Nothing is ever divided by a product
of decays, so no step size or A can overflow; sums run in a fixed order.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.chunk_steps import Sequence, backward_chunks, forward_chunks
from kmunet.ops.shapes import grouped, scan_dtype


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
    """As `kmunet.ops.selective_scan`; memory about 1/4 byte a state kept.

    First derivatives only. Raises ValueError for shapes that do not fit.
    """
    B, C = grouped(u, delta, A, B, C)
    dtype = scan_dtype(u)
    # Casts stay outside, so that autograd returns each gradient in its own dtype.
    cast = [t if t is None else t.to(dtype) for t in (u, delta, A, B, C, D, delta_bias)]
    y: Tensor = _ChunkedScan.apply(*cast, delta_softplus)  # type: ignore[no-untyped-call]
    return y.to(u.dtype)


@dataclass(frozen=True)
class _Layout:
    """Between (B, D, L) and time first, (L, B, G, D/G); states between G and D/G."""

    groups: int

    def time_first(self, x: Tensor) -> Tensor:
        """(B, D, L) -> (L, B, G, D/G), contiguous."""
        return torch.unflatten(x, 1, (self.groups, -1)).permute(3, 0, 1, 2).contiguous()

    def channels_first(self, x: Tensor) -> Tensor:
        """(L, B, G, D/G) -> (B, D, L)."""
        return x.permute(1, 2, 3, 0).flatten(1, 2)

    def per_group(self, A: Tensor) -> Tensor:
        """(D, N) -> (G, N, D/G), contiguous."""
        return torch.unflatten(A, 0, (self.groups, -1)).transpose(1, 2).contiguous()


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
    ) -> Tensor:
        layout = _Layout(B.shape[1])
        raw = delta if delta_bias is None else delta + delta_bias[:, None]
        sequence = _sequence(layout, u, raw, A, B, C, delta_softplus)
        y, checkpoints = forward_chunks(sequence)
        out = layout.channels_first(y)
        if D is not None:
            out = torch.addcmul(out, u, D[:, None])
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, *checkpoints)
        ctx.delta_softplus = delta_softplus
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, delta_bias, *checkpoints = ctx.saved_tensors
        layout = _Layout(B.shape[1])
        raw = delta if delta_bias is None else delta + delta_bias[:, None]
        sequence = _sequence(layout, u, raw, A, B, C, ctx.delta_softplus)
        found = backward_chunks(sequence, layout.time_first(grad), checkpoints)
        d_input = layout.channels_first(found.input)  # gradient of dt * u
        d_u = layout.channels_first(sequence.dt) * d_input
        d_delta = layout.channels_first(found.dt).addcmul_(u, d_input)
        if ctx.delta_softplus:
            d_delta = torch.ops.aten.softplus_backward(d_delta, raw, 1.0, 20.0)
        d_D = None
        if D is not None:
            d_u.addcmul_(grad, D[:, None])
            d_D = (grad * u).sum(2).sum(0)
        d_bias = None if delta_bias is None else d_delta.sum(2).sum(0)
        d_A = found.A.transpose(1, 2).flatten(0, 1)
        d_B, d_C = found.B.permute(1, 2, 3, 0), found.C.permute(1, 2, 3, 0)
        return d_u, d_delta, d_A, d_B, d_C, d_D, d_bias, None


def _sequence(
    layout: _Layout, u: Tensor, raw: Tensor, A: Tensor, B: Tensor, C: Tensor, plus: bool
) -> Sequence:
    dt = F.softplus(raw) if plus else raw
    return Sequence(
        dt=layout.time_first(dt),
        input=layout.time_first(dt * u),
        A=layout.per_group(A),
        B=B.permute(3, 0, 1, 2).contiguous(),
        C=C.permute(3, 0, 1, 2).contiguous(),
    )
