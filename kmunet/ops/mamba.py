"""The scan of the mamba-ssm package, where it is installed: a CUDA kernel.

It wants one dtype for u, delta, B and C, float32 for the rest, dense sequences and at
most 256 states. Its backward pass adds with atomics: not the same bits on every run.
"""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kmunet.errors import ConfigError
from kmunet.ops import chunked
from kmunet.ops.shapes import grouped

logger = logging.getLogger("kmunet.ops")

MAX_STATES = 256


@cache
def _function() -> Any:
    """`selective_scan_fn`, or None where the package or its CUDA module is missing."""
    if find_spec("mamba_ssm") is None or not torch.cuda.is_available():
        return None
    try:
        module = import_module("mamba_ssm.ops.selective_scan_interface")
    except Exception as error:  # built for another torch, without CUDA, or broken
        reason = f"{type(error).__name__}: {error}"
        logger.warning("mamba-ssm is installed and cannot be imported: %s", reason)
        return None
    return module.selective_scan_fn


def usable() -> bool:
    """Whether mamba-ssm is installed, loads, and has a GPU."""
    return _function() is not None


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """As `kmunet.ops.selective_scan`. Raises ConfigError for more than 256 states."""
    B, C = grouped(u, delta, A, B, C, D, delta_bias)
    if A.shape[1] > MAX_STATES:
        raise ConfigError(
            f"mamba-ssm scans at most {MAX_STATES} states, got {A.shape[1]}: "
            "choose scan backend 'auto'"
        )
    if u.numel() == 0:  # a kernel is not launched for nothing
        return chunked.selective_scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    sequences = (t.to(u.dtype).contiguous() for t in (u, delta, B, C))
    u, delta, B, C = sequences
    D, delta_bias = (t if t is None else t.float() for t in (D, delta_bias))
    call = _function()
    y: Tensor = call(u, delta, A.float(), B, C, D, None, delta_bias, delta_softplus)
    return y
