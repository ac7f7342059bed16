"""Autotuning of what cannot change a bit of the results, kept on disk by Triton.

What orders sums (chunks, tiles, the channels of a program that adds over lanes) is not
tuned but fixed by the sizes, in `kmunet.ops.triton.plan`.
"""

import os
from typing import Any

import triton

KEY = ["channels", "states", "chunk", "rank"]


def interpreted() -> bool:
    """Whether Triton runs kernels in Python, on tensors of any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def tuned(kernel: Any) -> Any:
    """Choose `block` and warps by time, once for each device and size.

    Only for a kernel without sums over states or channels: the compiler lays them out,
    and so orders them, by the block.
    """
    sizes = ((32, 1), (64, 1), (64, 2), (128, 2), (128, 4))
    return _autotuned(kernel, [_config(warps, block=block) for block, warps in sizes])


def tuned_registers(kernel: Any) -> Any:
    """Choose how many registers a lane may have: more, or more programs at once."""
    limits: tuple[int | None, ...] = (None, 128)
    return _autotuned(kernel, [_config(1, limit) for limit in limits])


def _config(warps: int, registers: int | None = None, **sizes: int) -> Any:
    return triton.Config(sizes, num_warps=warps, num_stages=1, maxnreg=registers)


def _autotuned(kernel: Any, configs: list[Any]) -> Any:
    if interpreted():  # there is nothing to time
        return triton.autotune(configs[:1], key=KEY)(kernel)
    return triton.autotune(configs, key=KEY, cache_results=True)(kernel)
