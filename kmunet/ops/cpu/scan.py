"""The one-dimensional scan on the kernel: each group of channels is a direction."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kmunet.ops import chunked
from kmunet.ops.backend import Optional
from kmunet.ops.cpu.native import Kernel, Problem, required
from kmunet.ops.function import apply
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
    B, C = grouped(u, delta, A, B, C, D, delta_bias)
    return apply(Scan(of), (u, delta, A, B, C, D, delta_bias), delta_softplus)


@dataclass(frozen=True)
class Scan:
    """As `kmunet.ops.backend.Kernels`, on one build of the kernel."""

    of: Kernel

    def kept_size(self, batch: int, length: int, channels: int, *more: int) -> int:
        """By the sizes B, L, D, N, G."""
        problem = _problem(True, batch, length, channels, *more)
        return self.of.kept(problem).numel()

    def forward(
        self, tensors: Optional, softplus: bool, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """y (B, D, L), and the states that the backward pass starts from."""
        inputs, problem = _inputs(tensors), _problem(softplus, *_sizes(tensors))
        kept = self.of.kept(problem) if keep else None
        y = torch.empty_like(inputs["x"])  # type: ignore[arg-type]
        self.of.forward(problem, **inputs, y=y, kept=kept)
        return y.transpose(1, 2), kept

    def backward(
        self, grad: Tensor, tensors: Optional, kept: Tensor, softplus: bool
    ) -> Optional:
        """Gradients of u, delta, A, B, C, D and the bias."""
        inputs, problem = _inputs(tensors), _problem(softplus, *_sizes(tensors))
        found = {f"d{k}": _room(t) for k, t in inputs.items()}
        dy = grad.transpose(1, 2).float().contiguous()
        self.of.backward(problem, **inputs, kept=kept, dy=dy, **found)
        dx, delta, A, proj, skip, bias = found.values()
        dB, dC = proj.permute(0, 2, 3, 1).chunk(2, dim=2)  # type: ignore[union-attr]
        channels_first = (t.transpose(1, 2) for t in (dx, delta))  # type: ignore[union-attr]
        return *channels_first, A, dB, dC, skip, bias


def _sizes(tensors: Optional) -> Any:
    u, _, A, B, *_ = tensors
    assert u is not None
    assert A is not None
    assert B is not None
    return u.shape[0], u.shape[2], u.shape[1], A.shape[1], B.shape[1]


def _problem(
    softplus: bool, batch: int, length: int, channels: int, states: int, groups: int
) -> Problem:
    return Problem(
        *(batch, groups, channels // groups, 1, length, states, 0),
        shared=False,
        softplus=softplus,
    )


def _inputs(tensors: Optional) -> dict[str, Tensor | None]:
    """For the kernel: x, delta (B, L, D), [B, C] (B, L, G, 2N)."""
    u, delta, A, B, C, D, bias = cast(Any, tensors)
    proj = torch.cat([B, C], dim=2).permute(0, 3, 1, 2)
    given = (u.transpose(1, 2), delta.transpose(1, 2), A, proj, D, bias)
    dense = (t if t is None else t.float().contiguous() for t in given)
    return dict(zip(NAMES, dense, strict=True))


NAMES = ("x", "delta", "A", "proj", "skip", "bias")


def _room(like: Tensor | None) -> Tensor | None:
    return None if like is None else torch.empty_like(like)
