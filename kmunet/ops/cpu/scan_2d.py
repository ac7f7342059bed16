"""The 2-D scan on the kernel: x is read and y written in place in all four orders.

A pixel's projections to (dt, B, C) do not depend on the order in which it is read:
one matrix product serves all four.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kmunet.ops.backend import Inputs
from kmunet.ops.cpu.native import Kernel, Problem
from kmunet.ops.function import apply_2d
from kmunet.ops.matrix import linear, linear_gradients


def scan_with(of: Kernel, x: Tensor, *weights: Tensor) -> Tensor:
    """As `kmunet.ops.selective_scan_2d` with a given build, for float32 on the CPU."""
    pixels = x.permute(0, 2, 3, 1).contiguous()
    return apply_2d(Scan2d(of), (pixels, *weights)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Scan2d:
    """As `kmunet.ops.backend.Kernels2d`, on one build of the kernel."""

    of: Kernel

    def kept_size(self, sizes: Sequence[int], states: int, rank: int) -> int:
        """By the sizes (B, H, W, D) of the pixels, N and R."""
        return self.of.kept(_problem(sizes, states, rank)).numel()

    def forward(
        self, tensors: Inputs, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """y (B, H, W, D), the projections, and states for the backward pass."""
        pixels, x_proj_weight, *others = tensors
        pixels = pixels.float()
        problem = _problem(pixels.shape, *_small_sizes(others))
        proj = linear(pixels, x_proj_weight.flatten(0, 1))
        kept = self.of.kept(problem) if keep else None
        y = torch.empty_like(pixels)
        self.of.forward(problem, **_inputs(pixels, proj, *others), y=y, kept=kept)
        return y, proj, kept

    def backward(
        self, grad: Tensor, tensors: Inputs, proj: Tensor, kept: Tensor
    ) -> Inputs:
        """Gradients of the pixels and of the five weights."""
        pixels, x_proj_weight, *others = tensors
        pixels = pixels.float()
        problem = _problem(pixels.shape, *_small_sizes(others))
        inputs = _inputs(pixels, proj, *others)
        found = {f"d{k}": torch.empty_like(inputs[k]) for k in ("x", "proj", *WEIGHTS)}
        self.of.backward(problem, **inputs, kept=kept, dy=grad, **found)
        # Back through the projection.
        weight = x_proj_weight.flatten(0, 1)
        through, d_weight = linear_gradients(pixels, weight, found["dproj"].flatten(3))
        found["dx"] += through
        return (
            found["dx"],
            d_weight.view_as(x_proj_weight),
            found["dweight"],
            found["dbias"],
            found["dA"].mul_(inputs["A"]),
            found["dskip"],
        )


def _small_sizes(others: Inputs) -> tuple[int, int]:
    """N and R."""
    return others[2].shape[1], others[0].shape[2]


def _problem(sizes: Sequence[int], states: int, rank: int) -> Problem:
    batch, height, width, channels = sizes
    return Problem(
        *(batch, 4, channels, height, width, states, rank),
        shared=True,
        softplus=True,
    )


WEIGHTS = ("weight", "bias", "A", "skip")


def _inputs(pixels: Tensor, proj: Tensor, *others: Tensor) -> dict[str, Tensor]:
    weight, bias, A_logs, Ds = others
    dense = (t.contiguous() for t in (weight, bias, -torch.exp(A_logs), Ds))
    return {"x": pixels, "proj": proj, **dict(zip(WEIGHTS, dense, strict=True))}
