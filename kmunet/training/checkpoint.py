"""A training state as a folder: safetensors for tensors, JSON for the rest.

weights.safetensors    the model after `epoch`
best.safetensors       the model of the best epoch so far
optimizer.safetensors  moments, by parameter place
state.json             epoch, best-so-far, history
Nothing in it is code: loading never runs anything.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from kmunet.errors import CheckpointError


@dataclass
class TrainingState:
    """What a run must remember between epochs."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_iou: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: optim.Optimizer,
    state: TrainingState,
) -> None:
    """Write all four files into an existing, empty folder."""
    from safetensors.torch import save_file  # not on every GPU machine

    save_file(weights_of(model), folder / "weights.safetensors")
    save_file(best, folder / "best.safetensors")
    save_file(_flatten(optimizer), folder / "optimizer.safetensors")
    text = json.dumps(asdict(state), indent=1, sort_keys=True)
    (folder / "state.json").write_text(text, encoding="utf-8")


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Restore model and optimizer in place; return the state and the best weights.

    Raises CheckpointError where files are missing or do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        best = load_file(folder / "best.safetensors")
        _unflatten(optimizer, load_file(folder / "optimizer.safetensors"))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: not a checkpoint of this run ({error}); "
            "delete it to start from the beginning"
        ) from error
    return TrainingState(**state), best


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a contiguous copy of the state dict on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }


def _flatten(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{place}.{key}": value.detach().cpu().contiguous()
        for place, values in state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _unflatten(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, key = name.split(".", 1)
        state.setdefault(int(place), {})[key] = tensor
    whole = optimizer.state_dict()
    whole["state"] = state
    with torch.no_grad():
        optimizer.load_state_dict(whole)
