"""What share of the device a training takes: its peak memory, and its arithmetic.

The share of the peak is the model's floating-point operations, three times those of a
forward pass, by time and by what this device reaches on one large product, measured
here: model FLOPs utilisation (PaLM, arXiv 2204.02311, appendix B).
"""

import copy
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.models.cost import flops
from kmunet.ops import use_backend
from kmunet.training.precision import DTYPES

if TYPE_CHECKING:
    from kmunet.config import TrainParams

_COUNTED = 64  # pixels, the side on which operations are counted: they grow with pixels
_SECONDS = 0.1  # of measuring
# (N, C, H, W) of a 1x1 convolution, a product of C x C with N*H*W columns.
_PRODUCT = {"cpu": (8, 512, 32, 32), "cuda": (16, 1024, 64, 64)}


def peak_memory(device: torch.device) -> int:
    """Bytes, the most so far: on a GPU what torch took, else of this process.

    On a GPU since `forget_peak`.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="ignore")
        return 1024 * int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])
    except (OSError, IndexError):  # not Linux
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak(device: torch.device) -> None:
    """Begin anew on a GPU: Triton tunes kernels, in first calls, beside 256 MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_rate(model: nn.Module, params: "TrainParams", image: Tensor) -> float | None:
    """Images a second that could be trained on, were all of it one large product.

    image: (B, C, S, S), of which the shape matters. None where a model cannot be
    counted, or there is no memory to measure in.
    """
    try:
        operations = 3 * forward_operations(model, image)
        return peak(image.device, DTYPES[params.precision]) / operations
    except (RuntimeError, StopIteration, ZeroDivisionError):
        return None


def forward_operations(model: nn.Module, image: Tensor) -> float:
    """Floating-point operations of a forward pass, an image, as `cost.flops` counts.

    On a copy on the CPU and a small image: kernels are left alone, memory too.
    """
    channels, side = image.shape[1], image.shape[-1]
    small = _COUNTED if side % _COUNTED == 0 else side
    with use_backend("chunked"):
        counted = flops(copy.deepcopy(model).cpu(), small, channels)
    return counted * (side / small) ** 2


@torch.no_grad()
def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second that this device reaches on one product, measured."""
    before = peak_memory(device)
    n, c, h, w = _PRODUCT[device.type]
    x = torch.ones(n, c, h, w, dtype=dtype, device=device)
    x = x.to(memory_format=torch.channels_last)
    weight = torch.ones(c, c, 1, 1, dtype=dtype, device=device)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    F.conv2d(x, weight)
    while best == float("inf") or time.perf_counter() < end:
        best = min(best, _seconds(x, weight))
    del x, weight
    if device.type == "cuda":
        torch.cuda.empty_cache()
        if before < peak_memory(device):
            torch.cuda.reset_peak_memory_stats(device)
    return 2.0 * n * h * w * c * c / best


def _seconds(x: Tensor, weight: Tensor) -> float:
    _wait(x.device)
    start = time.perf_counter()
    F.conv2d(x, weight)
    _wait(x.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
