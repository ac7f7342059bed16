"""The kernel's functions, called through ctypes on the memory of torch's tensors."""

import ctypes
import logging
import os
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kmunet.ops.cpu.compiler import BuildError, Variant, build, variants

logger = logging.getLogger("kmunet.ops")

SIZES = ("batch", "directions", "channels", "height", "width", "states", "rank")
SWITCHES = ("shared", "softplus", "threads")
INPUTS = ("x", "projection", "proj", "delta", "A", "weight", "bias", "skip")
OUTPUTS = ("y", "kept")
GRADIENTS = ("dy", *(f"d{name}" for name in INPUTS))
IN_MEMORY = (Tensor, torch.nn.Parameter)


class _Problem(ctypes.Structure):
    """`Problem` of scan.cpp."""

    _fields_ = (
        *((name, c_int64) for name in SIZES + SWITCHES),
        *((name, c_void_p) for name in INPUTS + OUTPUTS + GRADIENTS),
    )


@dataclass(frozen=True)
class Problem:
    """Sizes of one call; `height` * `width` tokens of `channels` in each direction.

    With `shared`, one x and y serve all directions: rows, columns and both reversed.
    """

    batch: int
    directions: int
    channels: int
    height: int
    width: int
    states: int
    rank: int
    shared: bool
    softplus: bool

    def with_tensors(self, tensors: dict[str, Tensor | None]) -> _Problem:
        """For the kernel. Tensors must be float32, dense and on the CPU."""
        threads = max(1, torch.get_num_threads())
        for name, tensor in tensors.items():
            if tensor is not None and not _fits(tensor):
                raise ValueError(f"{name} must be a contiguous float32 CPU tensor")
        pointers = {k: t.data_ptr() for k, t in tensors.items() if t is not None}
        return _Problem(**vars(self), threads=threads, **pointers)


def _fits(tensor: Tensor) -> bool:
    dense = tensor.is_contiguous() and tensor.dtype == torch.float32
    return dense and tensor.device.type == "cpu"


_forked = False


def _in_a_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_in_a_fork)


class Kernel:
    """One built variant."""

    def __init__(self, variant: Variant) -> None:
        self.name = variant.name
        try:
            self.library = ctypes.CDLL(str(build(variant)))
        except OSError as error:
            raise BuildError(f"the built kernel does not load: {error}") from None
        self.library.kmunet_kept_size.restype = c_int64
        self.library.kmunet_use_team(torchs_threads())

    def kept(self, problem: Problem) -> Tensor:
        """Room for the states that the backward pass starts from."""
        size = self.library.kmunet_kept_size(ctypes.byref(problem.with_tensors({})))
        return torch.empty(size, dtype=torch.float32)  # whatever the default is

    def run(self, name: str, problem: object, *more: int) -> None:
        """One of the kernel's functions. Raises MemoryError."""
        if getattr(self.library, f"kmunet_{name}")(problem, *more):
            raise MemoryError(
                f"no memory for what the CPU kernel's {name} adds up:"
                " a smaller batch or fewer threads need less"
            )

    def forward(self, problem: Problem, **tensors: Tensor | None) -> None:
        """Write `y`, and `kept` if it is given."""
        self.run("forward", ctypes.byref(problem.with_tensors(tensors)))

    def backward(self, problem: Problem, **tensors: Tensor | None) -> None:
        """Write the gradients that are given, from `dy` and `kept`."""
        self.run("backward", ctypes.byref(problem.with_tensors(tensors)))

    def exp(self, x: Tensor, repeat: int = 1) -> Tensor:
        """exp(x) as the scan computes it; the size must be a multiple of 16."""
        y = torch.empty_like(x)
        self._map(self.library.kmunet_exp, x, y, repeat)
        return y

    def softplus(self, x: Tensor) -> Tensor:
        """log(1 + exp(x)) likewise."""
        y = torch.empty_like(x)
        self._map(self.library.kmunet_softplus, x, y)
        return y

    @staticmethod
    def _map(function: Any, x: Tensor, y: Tensor, *more: int) -> None:
        numbers = (c_int64(value) for value in (x.numel(), *more))
        function(c_void_p(x.data_ptr()), c_void_p(y.data_ptr()), *numbers)


def torchs_threads() -> c_void_p:
    """`GOMP_parallel` of the OpenMP that torch runs on; null where it has another.

    Also in a fork: the threads stayed with the other process.
    """
    if _forked or not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return c_void_p()
    try:  # as torch's own libraries find it, which loads its dependencies globally
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, c_void_p)
    except (AttributeError, OSError, TypeError):
        return c_void_p()


@cache
def load(variant: Variant) -> Kernel:
    """The kernel for an instruction set, built if need be. Raises BuildError."""
    return Kernel(variant)


@cache
def kernel() -> Kernel | None:
    """The fastest kernel for this CPU; None, with one line in the log, without any."""
    try:
        return load(variants()[0])
    except BuildError as error:
        logger.warning("no CPU kernel, the scan runs in plain torch: %s", error)
        return None


def kernel_for(*tensors: Tensor | None) -> Kernel | None:
    """The kernel, if it can read these tensors' memory; None is no obstacle.

    It cannot while a compiler traces, nor that of fake tensors and other subclasses,
    which may have none: they take torch's operations.
    """
    if torch.compiler.is_compiling():
        return None
    if any(t is not None and type(t) not in IN_MEMORY for t in tensors):
        return None
    return kernel()


def usable() -> bool:
    """Whether there is a kernel on this machine."""
    return kernel() is not None


def required() -> Kernel:
    """The kernel of this machine. Raises RuntimeError where there is none."""
    found = kernel()
    if found is None:
        raise RuntimeError("there is no CPU kernel here: choose scan backend 'auto'")
    return found
