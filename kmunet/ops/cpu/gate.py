"""Layer norm of y times SiLU(z) on the kernel: see gate.h."""

import ctypes
from ctypes import c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel

INPUTS = ("y", "z", "weight", "bias")
OTHERS = ("out", "dout", "dy", "dz", "dweight", "dbias")


class _Gate(ctypes.Structure):
    """`Gate` of gate.h."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "channels", "threads")),
        ("epsilon", c_double),
        *((name, c_void_p) for name in INPUTS + OTHERS),
    )


def norm_gate(
    of: Kernel, y: Tensor, z: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> Tensor:
    """layer_norm(y) * silu(z) for y, z (..., C), float32 on the CPU.

    Keeps y and z alone. First derivatives only.
    """
    out: Tensor = _NormGate.apply(of, y, z, weight, bias, epsilon)  # type: ignore[no-untyped-call]
    return out


class _NormGate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        of: Kernel,
        y: Tensor,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        epsilon: float,
    ) -> Tensor:
        given = {"y": y.contiguous(), "z": z.contiguous()}
        given |= {"weight": weight, "bias": bias}
        out = torch.empty_like(given["y"])
        of.run("gate_forward", _problem(epsilon, given | {"out": out}))
        ctx.save_for_backward(*given.values())
        ctx.kernel, ctx.epsilon = of, epsilon
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given = dict(zip(INPUTS, ctx.saved_tensors, strict=True))
        found = {f"d{name}": torch.empty_like(given[name]) for name in INPUTS}
        tensors = given | found | {"dout": grad.contiguous()}
        ctx.kernel.run("gate_backward", _problem(ctx.epsilon, tensors))
        return None, *found.values(), None


def _problem(epsilon: float, tensors: dict[str, Tensor]) -> object:
    for name, tensor in tensors.items():
        dense = tensor.is_contiguous() and tensor.dtype == torch.float32
        if not dense or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be a contiguous float32 CPU tensor")
    y, pointers = tensors["y"], {k: t.data_ptr() for k, t in tensors.items()}
    rows, threads = y.numel() // y.shape[-1], max(1, torch.get_num_threads())
    return ctypes.byref(_Gate(rows, y.shape[-1], threads, epsilon, **pointers))
