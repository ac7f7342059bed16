"""Kernels as plain autograd functions: any build or version, without the dispatch."""

from typing import Any

import torch
from torch import Tensor

from kmunet.ops.backend import Inputs, Kernels, Kernels2d, Optional


def apply(kernels: Kernels, tensors: Optional, softplus: bool) -> Tensor:
    """y (B, D, L) in the dtype of u. First derivatives only."""
    y: Tensor = _Scan.apply(kernels, softplus, *tensors)  # type: ignore[no-untyped-call]
    return y


def apply_2d(kernels: Kernels2d, tensors: Inputs) -> Tensor:
    """y (B, H, W, D) of pixels (B, H, W, D)."""
    y: Tensor = _Scan2d.apply(kernels, *tensors)  # type: ignore[no-untyped-call]
    return y


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, softplus: bool, *tensors: Any) -> Tensor:
        keep = any(ctx.needs_input_grad)
        y, kept = kernels.forward(tensors, softplus, keep)
        ctx.save_for_backward(*tensors, kept)
        ctx.kernels, ctx.softplus = kernels, softplus
        return y.to(tensors[0].dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, kept = ctx.saved_tensors
        found = ctx.kernels.backward(grad, tensors, kept, ctx.softplus)
        return None, None, *_cast(found, tensors)


class _Scan2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels2d, *tensors: Tensor) -> Tensor:
        pixels, *weights = tensors
        dense = (pixels.contiguous(), *(w.float().contiguous() for w in weights))
        y, proj, kept = kernels.forward(dense, any(ctx.needs_input_grad))
        ctx.save_for_backward(*tensors, proj, kept)
        ctx.kernels = kernels
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, proj, kept = ctx.saved_tensors
        pixels, *weights = tensors
        dense = (pixels.contiguous(), *(w.float().contiguous() for w in weights))
        found = ctx.kernels.backward(grad.contiguous(), dense, proj, kept)
        return None, *_cast(found, tensors)


def _cast(found: Optional, like: Optional) -> tuple[Tensor | None, ...]:
    """Each gradient in the dtype of its tensor."""
    pairs = zip(found, like, strict=True)
    return tuple(None if g is None or t is None else g.to(t.dtype) for g, t in pairs)
