"""The same seed gives the same bits on the same kind of machine."""

import ctypes
import hashlib
import os
import random

import numpy as np
import torch

from kmunet.device import full_float32


def make_deterministic(seed: int, threads: int) -> None:
    """Seed every generator and fix what the order of sums depends on.

    `threads` is a parameter and not the machine's core count: a sum over 2 threads
    differs from one over 16 in the last bits.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    # A model may use an operation without a deterministic version: warn, do not stop.
    torch.use_deterministic_algorithms(True, warn_only=True)
    full_float32()
    # Only debugging needs every new tensor filled; it costs a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make torch's random numbers a function of the step: no state to be kept."""
    digest = hashlib.sha256(f"{seed}:{step}:{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: page faults cost over 2 CPU s a step.

    Elsewhere than on glibc this does nothing.
    """
    trim_threshold, mmap_threshold, limit = -1, -3, 1 << 30
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_threshold, limit)
    mallopt(trim_threshold, limit)
