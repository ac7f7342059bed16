"""The fused 2-D scan as custom operators `kmunet::selective_scan_2d[_backward]`.

On pixels (B, H, W, D), channels last. As in `kmunet.ops.library`, the version is
chosen when the operator runs; without a fused one it is composed from the 1-D scan.
"""

from typing import Any

import torch
from torch import Tensor

from kmunet.ops.backend import Kernels2d
from kmunet.ops.composed import Composed
from kmunet.ops.dispatch import get, name_for
from kmunet.ops.library import laid_out, nothing, or_nothing
from kmunet.ops.operator import (
    differentiable,
    in_float32,
    once_differentiable,
    operator,
)
from kmunet.ops.shapes import check_2d

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def kernels_of(backend: str, x: Tensor) -> Kernels2d:
    """The fused kernels of a version, "auto" resolved for x, or the composed scan."""
    name = name_for(backend, x.device.type, x.dtype == torch.float64)
    return (get(name).kernels_2d or Composed)()


@operator("selective_scan_2d")
def scan_2d(
    pixels: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, H, W, D) float32; projections and states for the backward pass."""
    weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    check_2d(pixels, *weights)  # the kernels read memory by these sizes
    kernels, dense = kernels_of(backend, pixels), _dense(pixels, weights)
    y, proj, kept = kernels.forward(dense, keep)
    if keep:
        return y, or_nothing(proj, pixels), or_nothing(kept, pixels)
    return y, nothing(pixels), nothing(pixels)


def _dense(pixels: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    cast = (w.to(torch.float32).contiguous() for w in weights)
    return (pixels.contiguous(), *cast)


@torch.library.register_fake("kmunet::selective_scan_2d")  # type: ignore[untyped-decorator]
def _(
    pixels: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y = pixels.new_empty(pixels.shape, dtype=torch.float32)
    if not keep:
        return y, nothing(pixels), nothing(pixels)
    kernels, proj = kernels_of(backend, pixels), nothing(pixels)
    if kernels.keeps_projections:
        columns = x_proj_weight.shape[0] * x_proj_weight.shape[1]
        proj = y.new_empty((*pixels.shape[:3], columns))
    sizes = [int(size) for size in pixels.shape]
    states, rank = int(A_logs.shape[1]), int(dt_projs_weight.shape[2])
    size = kernels.kept_size(sizes, states, rank)
    return y, proj, y.new_empty(size)


@operator("selective_scan_2d_backward")
def scan_2d_backward(
    grad: Tensor,
    pixels: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    proj: Tensor,
    kept: Tensor,
    backend: str,
) -> Six:
    """A dense gradient of the dtype of each tensor."""
    tensors = (pixels, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    kernels, dense = kernels_of(backend, pixels), _dense(pixels, tensors[1:])
    if kept.numel() == 0:
        _, again, states = kernels.forward(dense, True)
        proj, kept = or_nothing(again, pixels), or_nothing(states, pixels)
    found = kernels.backward(grad.contiguous(), dense, proj, kept)
    whole = (t if t.is_contiguous() else t.contiguous() for t in tensors)
    return tuple(laid_out(g, t) for g, t in zip(found, whole, strict=True))  # type: ignore[return-value]


@torch.library.register_fake("kmunet::selective_scan_2d_backward")  # type: ignore[untyped-decorator]
def _(
    grad: Tensor,
    pixels: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    proj: Tensor,
    kept: Tensor,
    backend: str,
) -> Six:
    tensors = (pixels, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    return tuple(t.new_empty(t.shape) for t in tensors)  # type: ignore[return-value]


def _save(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    *tensors, backend, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.backend = backend


def _differentiate(
    ctx: Any, grad: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    found = scan_2d_backward(grad, *ctx.saved_tensors, ctx.backend)
    return (*found, None, None)


differentiable("selective_scan_2d", _differentiate, _save)
once_differentiable("selective_scan_2d_backward")
in_float32("selective_scan_2d", "selective_scan_2d_backward")
