"""SiLU and cubic B-splines of a KAN layer's inputs on the kernel, see kan.h.

In the list SiLU, N_0, N_1, ... `first` to `last` says which are meant; start (F) is the
first knot of each input, step (F) its 1 / h.
"""

import ctypes
from ctypes import c_int64, c_void_p

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel

SIZES = ("rows", "inputs", "threads", "first", "last")
ARRAYS = ("x", "start", "inverse_step", "y", "dy", "dx")


class _Kan(ctypes.Structure):
    """`Kan` of kan.h."""

    _fields_ = (
        *((name, c_int64) for name in SIZES),
        *((name, c_void_p) for name in ARRAYS),
    )


def features(
    of: Kernel, x: Tensor, first: int, last: int, start: Tensor, step: Tensor
) -> Tensor:
    """x (rows, F) -> those functions of x (rows, last - first, F)."""
    y = x.new_empty(len(x), last - first, x.shape[1])
    given = {"x": x, "start": start, "inverse_step": step, "y": y}
    of.run("kan_forward", _problem(first, last, given))
    return y


def add_gradient(
    of: Kernel,
    dx: Tensor,
    x: Tensor,
    first: int,
    start: Tensor,
    step: Tensor,
    dy: Tensor,
) -> None:
    """Add to dx (rows, F) what comes from dy (rows, last - first, F).

    With `first` 0 it is written, whatever was there.
    """
    given = {"x": x, "start": start, "inverse_step": step, "dy": dy, "dx": dx}
    of.run("kan_backward", _problem(first, first + dy.shape[1], given))


def _problem(first: int, last: int, tensors: dict[str, Tensor]) -> object:
    for name, tensor in tensors.items():
        dense = tensor.is_contiguous() and tensor.dtype == torch.float32
        if not dense or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be a contiguous float32 CPU tensor")
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    threads = max(1, torch.get_num_threads())
    return ctypes.byref(_Kan(*tensors["x"].shape, threads, first, last, **pointers))
