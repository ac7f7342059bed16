"""Batch norm and ReLU on the kernel, over pixels (rows, channels): see norm.h."""

import ctypes
from ctypes import c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel

ARRAYS = ("x", "weight", "bias", "y", "mean", "inverse", "variance")
GRADIENTS = ("dy", "dx", "dweight", "dbias")


class _Norm(ctypes.Structure):
    """`Norm` of norm.h."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "channels", "threads")),
        ("epsilon", c_double),
        *((name, c_void_p) for name in ARRAYS + GRADIENTS),
    )


def batch_norm_relu(
    of: Kernel, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (..., C) -> max(0, norm(x)), and mean and variance (C) of all pixels.

    float32 on the CPU. The variance is the biased one. First derivatives only.
    """
    found: tuple[Tensor, Tensor, Tensor] = _NormReLU.apply(  # type: ignore[no-untyped-call]
        of, x, weight, bias, epsilon
    )
    return found


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, of: Kernel, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, y = x.contiguous(), x.new_empty(x.shape)
        mean, inverse, variance = (torch.empty_like(weight) for _ in range(3))
        given = {"x": x, "weight": weight, "bias": bias}
        found = {"y": y, "mean": mean, "inverse": inverse, "variance": variance}
        of.library.kmunet_norm_forward(_problem(epsilon, given | found))
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.kernel, ctx.epsilon = of, epsilon
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        given = {"x": x, "weight": weight, "bias": bias, "dy": grad.contiguous()}
        given |= {"mean": mean, "inverse": inverse}
        found = {"dx": torch.empty_like(x)}
        found |= {"dweight": torch.empty_like(weight), "dbias": torch.empty_like(bias)}
        ctx.kernel.library.kmunet_norm_backward(_problem(ctx.epsilon, given | found))
        return None, found["dx"], found["dweight"], found["dbias"], None


def _problem(epsilon: float, tensors: dict[str, Tensor]) -> object:
    for name, tensor in tensors.items():
        dense = tensor.is_contiguous() and tensor.dtype == torch.float32
        if not dense or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be a contiguous float32 CPU tensor")
    x, pointers = tensors["x"], {k: t.data_ptr() for k, t in tensors.items()}
    rows, threads = x.numel() // x.shape[-1], max(1, torch.get_num_threads())
    return ctypes.byref(_Norm(rows, x.shape[-1], threads, epsilon, **pointers))
