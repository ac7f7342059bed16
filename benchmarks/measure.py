"""Wall and CPU seconds of a call, and the machine in general words."""

import os
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def measure(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """The least and the median; other work on the machine only ever adds."""
    call()  # first use: memory, caches, choices
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    found = {"wall": min(walls), "wall_median": median(walls)}
    return found | {"cpu": min(cpus), "cpu_median": median(cpus)}


def total(parts: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(part[key] for part in parts) for key in parts[0]}


def rounded(value: Any) -> Any:
    """Numbers to four digits, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(pages / 2**30),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_at_start": os.getloadavg()[0],
    }
