"""The machine in general words, and figures rounded for a file."""

import os
import platform
from typing import Any

import torch

AHEAD = 100_000_000  # clock cycles, about 50 ms


def run_ahead() -> None:
    """Occupy the GPU, so that it does not wait for the launches of what follows."""
    torch.cuda._sleep(AHEAD)


def rounded(value: Any) -> Any:
    """Numbers to four digits, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "memory_gb": round(pages / 2**30),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_at_start": os.getloadavg()[0],
    }
