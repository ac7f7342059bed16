"""y = x W^T + b over the last dimension, by the fastest matrix product of the CPU.

torch gives float32 products to MKL, which takes AVX2 on other makers' AVX-512; its
convolutions go to oneDNN. As a 1x1 convolution over channels-last pixels the product
takes half the time there. Elsewhere MKL is as fast or faster.
"""

import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # of a 1x1 convolution


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in), weight (out, in), bias (out): as `F.linear` (..., out)."""
    if not _as_convolution(x):
        return F.linear(x, weight, bias)
    y = F.conv2d(_pixels(x), weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def linear_gradients(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of `linear(x, weight)`, those of x and of the weight."""
    if not _as_convolution(x):
        rows = grad.reshape(-1, grad.shape[-1])
        return grad @ weight, rows.t() @ x.reshape(-1, x.shape[-1])
    dx, d_weight, _ = torch.ops.aten.convolution_backward(
        *(_pixels(grad), _pixels(x), weight[:, :, None, None], None),
        *_WINDOW,
        [True, True, False],
    )
    return dx.permute(0, 2, 3, 1).reshape(x.shape), d_weight.view_as(weight)


def _as_convolution(x: Tensor) -> bool:
    single = x.device.type == "cpu" and x.dtype == torch.float32
    return single and x.numel() > 0 and CONVOLVED


def convolutions_are_faster() -> bool:
    """Where torch has oneDNN, and no MKL that takes all that the processor can do."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    served = torch._C.has_mkl and (not wide or "GenuineIntel" in _processor())
    return bool(torch._C._has_mkldnn) and not served


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return file.read(1024)  # the first core of many
    except OSError:
        return platform.processor()


CONVOLVED = convolutions_are_faster()  # a constant to a compiler that traces `linear`


def _pixels(x: Tensor) -> Tensor:
    """(..., C) -> (1, C, 1, pixels), channels last."""
    return x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
