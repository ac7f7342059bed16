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

from kmunet.ops.backend import Optional
from kmunet.ops.chunk_steps import (
    Sequence,
    backward_chunks,
    forward_chunks,
    kept_size,
)
from kmunet.ops.function import apply
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
    B, C = grouped(u, delta, A, B, C, D, delta_bias)
    return apply(Chunked(), (u, delta, A, B, C, D, delta_bias), delta_softplus)


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


class Chunked:
    """As `kmunet.ops.backend.Kernels`; float64 is scanned in float64."""

    def kept_size(self, batch: int, length: int, channels: int, *more: int) -> int:
        """By the sizes B, L, D, N, G."""
        return kept_size(batch, length, channels * more[0])

    def forward(
        self, tensors: Optional, softplus: bool, keep: bool
    ) -> tuple[Tensor, Tensor]:
        """y (B, D, L), and the states at the start of each chunk."""
        u, delta, A, B, C, D, bias = _cast(tensors)
        layout = _Layout(B.shape[1])
        raw = delta if bias is None else delta + bias[:, None]
        y, kept = forward_chunks(_sequence(layout, u, raw, A, B, C, softplus))
        out = layout.channels_first(y)
        if D is not None:
            out = torch.addcmul(out, u, D[:, None])
        return out, kept

    def backward(
        self, grad: Tensor, tensors: Optional, kept: Tensor, softplus: bool
    ) -> Optional:
        """Gradients of u, delta, A, B, C, D and the bias."""
        u, delta, A, B, C, D, bias = _cast(tensors)
        grad, layout = grad.to(u.dtype), _Layout(B.shape[1])
        raw = delta if bias is None else delta + bias[:, None]
        sequence = _sequence(layout, u, raw, A, B, C, softplus)
        found = backward_chunks(sequence, layout.time_first(grad), kept)
        d_input = layout.channels_first(found.input)  # gradient of dt * u
        d_u = layout.channels_first(sequence.dt) * d_input
        d_delta = layout.channels_first(found.dt).addcmul_(u, d_input)
        if softplus:
            d_delta = torch.ops.aten.softplus_backward(d_delta, raw, 1.0, 20.0)
        d_D = None
        if D is not None:
            d_u.addcmul_(grad, D[:, None])
            d_D = (grad * u).sum(2).sum(0)
        d_bias = None if bias is None else d_delta.sum(2).sum(0)
        d_A = found.A.transpose(1, 2).flatten(0, 1)
        d_B, d_C = found.B.permute(1, 2, 3, 0), found.C.permute(1, 2, 3, 0)
        return d_u, d_delta, d_A, d_B, d_C, d_D, d_bias


def _cast(tensors: Optional) -> Any:
    u = tensors[0]
    dtype = torch.float32 if u is None else scan_dtype(u)
    return [t if t is None else t.to(dtype) for t in tensors]


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
