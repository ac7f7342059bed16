"""What a part of a model does under autocast: float32, and products that are not."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Autocast switched off, where a kind of device has it and it is on."""
    if _autocast(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def product_dtype(device: str) -> torch.dtype | None:
    """What autocast multiplies matrices in, None where it is off.

    None too on a CPU without instructions for it, where float32 is faster.
    """
    if not _autocast(device):
        return None
    dtype = torch.get_autocast_dtype(device)
    return None if device == "cpu" and dtype not in CPU_PRODUCTS else dtype


def _autocast(device: str) -> bool:
    # "meta", of models without memory, has none, and torch raises on asking. By name,
    # as compilers before torch 2.13 cannot follow `is_autocast_available`.
    return device != "meta" and torch.is_autocast_enabled(device)


def _cpu_products() -> list[torch.dtype]:
    # Not in every torch that trains on a GPU.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    named = ("avx512_bf16", "amx_bf16", "bf16")
    return [torch.bfloat16] if any(able.get(name) for name in named) else []


CPU_PRODUCTS = _cpu_products()  # a constant to a compiler that traces
