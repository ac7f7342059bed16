"""Autotuning of what cannot change a bit of the results, kept on disk by Triton.

What orders sums (chunks, tiles, the channels of a program that adds over lanes) is not
tuned but fixed by the sizes, in `kmunet.ops.triton.plan`.
"""

import os
from typing import Any

import triton

KEY = ["channels", "states", "chunk", "rank", "busy"]


# Whether Triton runs kernels in Python: it decides so once, as they are imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _config(registers: int | None = None, **sizes: int) -> Any:
    return triton.Config(sizes, num_warps=1, num_stages=1, maxnreg=registers)


BLOCKS = [_config(block=32), _config(block=64)]  # channels: one or two a lane
REGISTERS = [_config(), _config(128)]  # of a lane: more, or more programs at once


def tuned(kernel: Any) -> Any:
    """Choose `block` by time, once for each device, size and number of programs.

    Only for a kernel without sums over channels: the compiler lays them out, and so
    orders them, by the block.
    """
    return _autotuned(kernel, BLOCKS)


def tuned_registers(kernel: Any) -> Any:
    """Choose how many registers a lane may have, in the same way."""
    return _autotuned(kernel, REGISTERS)


def _autotuned(kernel: Any, configs: list[Any]) -> Any:
    if INTERPRETED:  # there is nothing to time
        return triton.autotune(configs[:1], key=KEY)(kernel)
    return triton.autotune(configs, key=KEY, cache_results=True)(kernel)
