"""The scan as Triton kernels for NVIDIA GPUs; imported at the first use."""

import os
from importlib.util import find_spec
from typing import Any

import torch


def usable() -> bool:
    """Whether Triton is installed and has a GPU, or runs in its interpreter."""
    if find_spec("triton") is None:
        return False
    return torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"


def kernels() -> Any:
    """The one-dimensional scan."""
    from kmunet.ops.triton.scan import TritonScan

    return TritonScan()


def kernels_2d() -> Any:
    """The fused 2-D scan."""
    from kmunet.ops.triton.scan import TritonScan2d

    return TritonScan2d()
