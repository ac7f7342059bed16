"""Batch norm and ReLU on the kernel, over pixels (rows, channels): see norm.h."""

import ctypes
from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel
from kmunet.ops.moments import combined, packed

ARRAYS = ("moments", "x", "weight", "bias", "y", "mean", "inverse", "variance")
GRADIENTS = ("dy", "dx")

Gather = Callable[[Tensor], Tensor]  # (n) -> (R, n), that of each rank in their order


class _Norm(ctypes.Structure):
    """`Norm` of norm.h."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "channels", "threads")),
        *((name, c_double) for name in ("total", "epsilon")),
        *((name, c_void_p) for name in ARRAYS + GRADIENTS),
    )


def batch_norm_relu(
    of: Kernel,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """x (..., C) -> max(0, norm(x)); mean and variance (C) of all pixels, their number.

    float32 on the CPU. With `gather` the pixels are those of all ranks, which call it
    together, once here and once for the gradient. The variance is the biased one.
    First derivatives only.
    """
    found: tuple[Tensor, Tensor, Tensor, float] = _NormReLU.apply(  # type: ignore[no-untyped-call]
        of, x, weight, bias, epsilon, gather
    )
    return found


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        of: Kernel,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        epsilon: float,
        gather: Gather | None,
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        x, y = x.contiguous(), x.new_empty(x.shape)
        mean, inverse, variance = (torch.empty_like(weight) for _ in range(3))
        moments = x.new_empty(2, weight.numel(), dtype=torch.float64)
        total = float(x.numel() // weight.numel())
        of.run("norm_moments", _problem({"x": x, "moments": moments}))
        if gather is not None:
            moments, total = combined(gather(packed(moments, int(total))))
        given = {"x": x, "weight": weight, "bias": bias, "moments": moments}
        found = {"y": y, "mean": mean, "inverse": inverse, "variance": variance}
        of.run("norm_forward", _problem(given | found, total, epsilon))
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.kernel, ctx.total, ctx.gather = of, total, gather
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        dx, sums = (
            torch.empty_like(x),
            x.new_empty(2, mean.numel(), dtype=torch.float64),
        )
        given = {"x": x, "weight": weight, "bias": bias, "dy": grad.contiguous()}
        given |= {"mean": mean, "inverse": inverse, "moments": sums}
        ctx.kernel.run("norm_slopes", _problem(given))
        dbias, dweight = sums[0].float(), (sums[1] * inverse.double()).float()
        if ctx.gather is not None:
            given["moments"] = ctx.gather(sums.flatten()).sum(0)
        ctx.kernel.run("norm_backward", _problem(given | {"dx": dx}, ctx.total))
        return None, dx, dweight, dbias, None, None


def _problem(
    tensors: dict[str, Tensor], total: float = 0.0, epsilon: float = 0.0
) -> object:
    for name, tensor in tensors.items():
        kind = torch.float64 if name == "moments" else torch.float32
        dense = tensor.is_contiguous() and tensor.dtype == kind
        if not dense or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be a contiguous {kind} CPU tensor")
    x, pointers = tensors["x"], {k: t.data_ptr() for k, t in tensors.items()}
    rows, threads = x.numel() // x.shape[-1], max(1, torch.get_num_threads())
    return ctypes.byref(_Norm(rows, x.shape[-1], threads, total, epsilon, **pointers))
