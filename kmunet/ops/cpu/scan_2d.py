"""The 2-D scan on the kernel: x is read and y written in place in all four orders.

A pixel is projected to (dt, B, C) where it is scanned, forward and backward: the
projections of all four orders are four times the memory of x, and are never stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kmunet.ops.backend import Inputs
from kmunet.ops.cpu.native import Kernel, Problem
from kmunet.ops.function import apply_2d


def scan_with(of: Kernel, x: Tensor, *weights: Tensor) -> Tensor:
    """As `kmunet.ops.selective_scan_2d` with a given build, for float32 on the CPU."""
    pixels = x.permute(0, 2, 3, 1).contiguous()
    return apply_2d(Scan2d(of), (pixels, *weights)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Scan2d:
    """As `kmunet.ops.backend.Kernels2d`, on one build of the kernel."""

    of: Kernel
    keeps_projections = False

    def kept_size(self, sizes: Sequence[int], states: int, rank: int) -> int:
        """By the sizes (B, H, W, D) of the pixels, N and R."""
        return self.of.kept(_problem(sizes, states, rank)).numel()

    def forward(
        self, tensors: Inputs, keep: bool
    ) -> tuple[Tensor, None, Tensor | None]:
        """y (B, H, W, D), and states for the backward pass."""
        inputs, problem = _inputs(*tensors), _problem_of(tensors)
        kept = self.of.kept(problem) if keep else None
        y = torch.empty_like(inputs["x"])
        self.of.forward(problem, **inputs, y=y, kept=kept)
        return y, None, kept

    def backward(
        self, grad: Tensor, tensors: Inputs, proj: Tensor | None, kept: Tensor
    ) -> Inputs:
        """Gradients of the pixels and of the five weights."""
        inputs, problem = _inputs(*tensors), _problem_of(tensors)
        found = {f"d{name}": torch.empty_like(t) for name, t in inputs.items()}
        self.of.backward(problem, **inputs, kept=kept, dy=grad, **found)
        found["dA"].mul_(inputs["A"])
        return tuple(found.values())


def _problem_of(tensors: Inputs) -> Problem:
    pixels, _, weight, _, A_logs, _ = tensors
    return _problem(pixels.shape, A_logs.shape[1], weight.shape[2])


def _problem(sizes: Sequence[int], states: int, rank: int) -> Problem:
    batch, height, width, channels = sizes
    return Problem(
        *(batch, 4, channels, height, width, states, rank),
        shared=True,
        softplus=True,
    )


NAMES = ("x", "projection", "weight", "bias", "A", "skip")


def _inputs(
    pixels: Tensor,
    x_proj_weight: Tensor,
    weight: Tensor,
    bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> dict[str, Tensor]:
    given = (pixels.float(), x_proj_weight, weight, bias, -torch.exp(A_logs), Ds)
    return dict(zip(NAMES, (t.contiguous() for t in given), strict=True))
