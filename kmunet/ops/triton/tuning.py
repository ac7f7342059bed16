"""Autotuning of what cannot change a bit of the results, kept on disk by Triton.

A program takes `block` channels, 32 to a warp and the rest in registers: that alone is
tuned, since a channel's sums are then the same in any block. What orders sums (chunks,
tiles, the backward pass's blocks) is fixed by the sizes, in `kmunet.ops.triton.plan`.
"""

import os
from typing import Any

import triton

KEY = ["channels", "states", "chunk", "rank"]


def interpreted() -> bool:
    """Whether Triton runs kernels in Python, on tensors of any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def tuned(kernel: Any) -> Any:
    """Choose `block` and warps by time, once for each device and size."""
    sizes = ((32, 1), (64, 1), (64, 2), (128, 2), (128, 4))
    configs = [
        triton.Config({"block": block}, num_warps=warps, num_stages=1)
        for block, warps in sizes
    ]
    if interpreted():  # there is nothing to time
        configs = configs[:1]
    return triton.autotune(configs, key=KEY, cache_results=not interpreted())(kernel)
