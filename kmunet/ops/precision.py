"""Parts of a model that stay in float32 under autocast."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Autocast switched off, where a kind of device has it and it is on."""
    # "meta", of models without memory, has none, and torch raises on asking.
    known = torch.amp.is_autocast_available(device)
    if known and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
