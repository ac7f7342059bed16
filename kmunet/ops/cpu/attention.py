"""Efficient multi-scale attention's passes over pixels on the kernel: attention.cpp.

Images are (B, H, W, C), dense, in float32 or bfloat16; all else is float32. Numbers of
rows and columns share a tensor (B, H + W, C).
"""

import ctypes
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kmunet.ops.cpu.native import Kernel

SIZES = ("batch", "height", "width", "channels", "groups", "threads")
ARRAYS = (
    *("x", "means", "gates", "mean", "variance", "kernel", "scale", "shift"),
    *("out", "weights", "dout", "dscore", "dkernel", "dscale", "dshift"),
    *("slope", "constant", "dgates", "dmeans", "dx"),
)
IMAGES = ("x", "out", "dout", "dx")


class _Attention(ctypes.Structure):
    """`Attention` of attention.h."""

    _fields_ = (
        *((name, c_int64) for name in SIZES),
        *((name, c_void_p) for name in ARRAYS),
    )


class Mixed(NamedTuple):
    """score = sum over a group of kernel * x + scale (u - mean) + shift.

    u is x times its gates.
    """

    kernel: Tensor  # (9, C)
    scale: Tensor  # (B, C)
    shift: Tensor  # (B, C)


@dataclass(frozen=True)
class Passes:
    """For one image batch x, whose C channels are in `groups` groups."""

    of: Kernel
    x: Tensor
    groups: int

    def means(self) -> Tensor:
        """Of rows and columns."""
        means = self._lines()
        self._run("means", means=means)
        return means

    def moments(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of u, (B, C) each."""
        mean, variance = self._of_channels(), self._of_channels()
        self._run("moments", gates=gates, mean=mean, variance=variance)
        return mean, variance

    def weigh(self, **given: Tensor) -> tuple[Tensor, Tensor]:
        """From gates, mean, and what is mixed: x times its weights, and these.

        They are sigmoid(score) (B, H, W, G).
        """
        out, weights = torch.empty_like(self.x), self._of_groups()
        self._run("weigh", **given, out=out, weights=weights)
        return out, weights

    def score_gradient(self, **given: Tensor) -> tuple[Tensor, Mixed]:
        """From gates, mean, weights and dout those of the score and what is in it."""
        c, dscore = self.x.shape[-1], self._of_groups()
        found = Mixed(self._new(9, c), self._of_channels(), self._of_channels())
        into = {f"d{name}": tensor for name, tensor in found._asdict().items()}
        self._run("score_gradient", **given, dscore=dscore, **into)
        return dscore, found

    def gate_gradient(self, **given: Tensor) -> Tensor:
        """From gates, mean, scale, dscore, slope and constant.

        To u comes scale dscore + slope (u - mean) + constant; the last two are (B, C).
        """
        dgates = self._lines()
        self._run("gate_gradient", **given, dgates=dgates)
        return dgates

    def pixel_gradient(self, **given: Tensor) -> Tensor:
        """Of x, from all that was said before and dmeans."""
        dx = torch.empty_like(self.x)
        self._run("pixel_gradient", **given, dx=dx)
        return dx

    def _new(self, *shape: int) -> Tensor:
        return self.x.new_empty(shape, dtype=torch.float32)

    def _lines(self) -> Tensor:
        batch, height, width, channels = self.x.shape
        return self._new(batch, height + width, channels)

    def _of_channels(self) -> Tensor:
        return self._new(len(self.x), self.x.shape[-1])

    def _of_groups(self) -> Tensor:
        return self._new(*self.x.shape[:-1], self.groups)

    def _run(self, name: str, **tensors: Tensor) -> None:
        tensors["x"] = self.x
        for key, tensor in tensors.items():
            dtype = self.x.dtype if key in IMAGES else torch.float32
            fits = tensor.dtype == dtype and tensor.device.type == "cpu"
            if not fits or not tensor.is_contiguous():
                raise ValueError(f"{key} must be a contiguous {dtype} CPU tensor")
        threads = max(1, torch.get_num_threads())
        pointers = {key: tensor.data_ptr() for key, tensor in tensors.items()}
        problem = _Attention(*self.x.shape, self.groups, threads, **pointers)
        half = int(self.x.dtype == torch.bfloat16)
        self.of.run(f"attention_{name}", ctypes.byref(problem), half)
