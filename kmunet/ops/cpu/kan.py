"""SiLU and cubic B-splines of a KAN layer's inputs on the kernel, see kan.h."""

import ctypes
from ctypes import c_int64, c_void_p

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel

SIZES = ("rows", "inputs", "bases", "threads")
ARRAYS = ("x", "start", "inverse_step", "y", "dy", "dx")


class _Kan(ctypes.Structure):
    """`Kan` of kan.h."""

    _fields_ = (
        *((name, c_int64) for name in SIZES),
        *((name, c_void_p) for name in ARRAYS),
    )


def features(of: Kernel, x: Tensor, bases: int, start: Tensor, step: Tensor) -> Tensor:
    """x (rows, F) -> SiLU(x), N_0(x), ... (rows, 1 + bases, F); `step` is 1 / h."""
    x = x.contiguous()
    y = x.new_empty(len(x), 1 + bases, x.shape[1])
    of.library.kmunet_kan_forward(_problem(bases, x, start, step, y=y))
    return y


def gradient(of: Kernel, x: Tensor, start: Tensor, step: Tensor, dy: Tensor) -> Tensor:
    """From dy (rows, 1 + bases, F), the gradient of x (rows, F)."""
    x, dy = x.contiguous(), dy.contiguous()
    dx = torch.empty_like(x)
    bases = dy.shape[1] - 1
    of.library.kmunet_kan_backward(_problem(bases, x, start, step, dy=dy, dx=dx))
    return dx


def _problem(
    bases: int, x: Tensor, start: Tensor, step: Tensor, **more: Tensor
) -> object:
    given = {"x": x, "start": start, "inverse_step": step, **more}
    for name, tensor in given.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be a float32 CPU tensor")
    pointers = {name: tensor.data_ptr() for name, tensor in given.items()}
    threads = max(1, torch.get_num_threads())
    return ctypes.byref(_Kan(*x.shape, bases, threads, **pointers))
