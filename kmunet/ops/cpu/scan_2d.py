"""The 2-D scan on the kernel: x is read and y written in place in all four orders.

A pixel's projections to (dt, B, C) do not depend on the order in which it is read:
one matrix product serves all four.
"""

from typing import Any

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel, Problem, required
from kmunet.ops.matrix import linear, linear_gradients


def selective_scan_2d(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """As `kmunet.ops.selective_scan_2d`, for float32 on the CPU; channels last inside.

    First derivatives only.
    """
    weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    return scan_with(required(), x, *weights)


def scan_with(of: Kernel, x: Tensor, *weights: Tensor) -> Tensor:
    """The same with a given build of the kernel."""
    y: Tensor = _Scan2d.apply(of, x.permute(0, 2, 3, 1), *weights)  # type: ignore[no-untyped-call]
    return y.permute(0, 3, 1, 2)


class _Scan2d(torch.autograd.Function):
    """On pixels (B, H, W, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        of: Kernel,
        pixels: Tensor,
        x_proj_weight: Tensor,
        dt_projs_weight: Tensor,
        dt_projs_bias: Tensor,
        A_logs: Tensor,
        Ds: Tensor,
    ) -> Tensor:
        pixels = pixels.contiguous()
        batch, height, width, channels = pixels.shape
        directions, _, rank = dt_projs_weight.shape
        problem = Problem(
            *(batch, directions, channels, height, width, A_logs.shape[1], rank),
            shared=True,
            softplus=True,
        )
        proj = linear(pixels, x_proj_weight.flatten(0, 1))
        others = (dt_projs_weight, dt_projs_bias, A_logs, Ds)
        inputs = _inputs(pixels, proj, *others)
        kept = of.kept(problem) if any(ctx.needs_input_grad) else None
        y = torch.empty_like(pixels)
        of.forward(problem, **inputs, y=y, kept=kept)
        ctx.save_for_backward(
            pixels,
            proj,
            kept,
            x_proj_weight,
            dt_projs_weight,
            dt_projs_bias,
            A_logs,
            Ds,
        )
        ctx.kernel, ctx.problem = of, problem
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pixels, proj, kept, x_proj_weight, *others = ctx.saved_tensors
        inputs = _inputs(pixels, proj, *others)
        found = {f"d{k}": torch.empty_like(inputs[k]) for k in ("x", "proj", *WEIGHTS)}
        dy = grad.contiguous()
        ctx.kernel.backward(ctx.problem, **inputs, kept=kept, dy=dy, **found)
        # Back through the projection.
        weight = x_proj_weight.flatten(0, 1)
        through, d_weight = linear_gradients(pixels, weight, found["dproj"].flatten(3))
        found["dx"] += through
        return (
            None,
            found["dx"],
            d_weight.view_as(x_proj_weight),
            found["dweight"],
            found["dbias"],
            found["dA"].mul_(inputs["A"]),
            found["dskip"],
        )


WEIGHTS = ("weight", "bias", "A", "skip")


def _inputs(pixels: Tensor, proj: Tensor, *others: Tensor) -> dict[str, Tensor]:
    weight, bias, A_logs, Ds = others
    dense = (t.contiguous() for t in (weight, bias, -torch.exp(A_logs), Ds))
    return {"x": pixels, "proj": proj, **dict(zip(WEIGHTS, dense, strict=True))}
