"""The scan as Triton kernels for NVIDIA GPUs; imported at the first use."""

import logging
import os
import shutil
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

logger = logging.getLogger("kmunet.ops")


def usable() -> bool:
    """Whether Triton is installed and has an NVIDIA GPU, or runs in its interpreter."""
    if find_spec("triton") is None:
        return False
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True
    return torch.cuda.is_available() and torch.version.hip is None and _can_launch()


@cache
def _can_launch() -> bool:
    """Triton compiles what launches a kernel with a C compiler; said once if none."""
    found = bool(os.environ.get("CC")) or any(map(shutil.which, ("gcc", "clang")))
    if not found:
        logger.warning(
            "no C compiler (gcc, clang), which Triton needs: the scan runs without it"
        )
    return found


def kernels() -> Any:
    """The one-dimensional scan."""
    from kmunet.ops.triton.scan import TritonScan

    return TritonScan()


def kernels_2d() -> Any:
    """The fused 2-D scan."""
    from kmunet.ops.triton.scan import TritonScan2d

    return TritonScan2d()
