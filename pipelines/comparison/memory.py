"""The memory of this process: as much as it holds, and the most that it held."""

import psutil
import torch

from kmunet.training import utilisation


def memory() -> int:
    """Resident bytes now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Most resident bytes so far, without what a GPU holds."""
    return utilisation.peak_memory(torch.device("cpu"))
