"""The memory of this process: as much as it holds, and the most that it held."""

import re
import resource
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def memory() -> int:
    """Resident bytes now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Most resident bytes so far.

    Of Linux's VmHWM: ru_maxrss starts with what the parent held when it forked.
    """
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"))
        if found:
            return 1024 * int(found[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
