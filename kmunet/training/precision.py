"""Mixed precision: bfloat16 or float16 where it is safe, float32 weights and loss.

The scan and the splines keep float32 inside whatever is chosen here.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn, optim

from kmunet.errors import ConfigError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Precision:
    """Autocast for the forward pass; float16's gradients are scaled and unscaled."""

    def __init__(self, name: str, device: torch.device) -> None:
        self._dtype, self._device = DTYPES[name], device
        if name == "float16" and device.type != "cuda":
            raise ConfigError(
                "train.precision: float16 needs a GPU; choose bfloat16 or float32"
            )
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[Any]:
        enabled = self._dtype != torch.float32
        return torch.autocast(self._device.type, self._dtype, enabled=enabled)

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(
        self, optimizer: optim.Optimizer, model: nn.Module, clip: float | None
    ) -> None:
        """Clip the norm of all gradients to `clip`, then let the optimizer step.

        float16: a step whose gradients overflowed is left out and the scale lowered.
        """
        if clip is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """For the checkpoint; empty unless float16."""
        return self._scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        self._scaler.load_state_dict(state)
