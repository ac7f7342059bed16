"""A training state as a folder: safetensors for tensors, JSON for the rest.

weights.safetensors    the model
average.safetensors    its weight average, if there is one
best.safetensors       the model of the best epoch so far
optimizer.safetensors  moments, by parameter place
state.json             how far, best-so-far, history; sha256 of the other files and
                       of its own content
Nothing in it is code: loading never runs anything.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from kmunet.data.digest import sha256_of
from kmunet.errors import CheckpointError
from kmunet.training.averaging import WeightAverage
from kmunet.training.precision import Precision


@dataclass
class TrainingState:
    """What a run must remember between steps, tensors aside."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the next one
    step: int = 0  # steps done in all
    lr: float = 0.0  # of the last step
    best_epoch: int = 0
    best_iou: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    first_losses: list[float] = field(default_factory=list)  # of each batch
    sums: list[list[float]] = field(default_factory=list)  # of each rank's batches
    averaged: int = 0  # steps in the weight average
    scaler: dict[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)
    spent: bool = False  # the budget of time is


@dataclass(frozen=True)
class Parts:
    """What is trained and has tensors to be kept."""

    model: nn.Module
    optimizer: optim.Optimizer
    average: WeightAverage | None
    precision: Precision


def save_checkpoint(
    folder: Path, parts: Parts, best: Mapping[str, Tensor], state: TrainingState
) -> None:
    """Write all files into an existing, empty folder; state.json last."""
    from safetensors.torch import save_file  # not on every GPU machine

    tensors = {
        "weights": weights_of(parts.model),
        "optimizer": _flatten(parts.optimizer),
    }
    if best:
        tensors["best"] = dict(best)
    if parts.average is not None:
        mean = parts.average.mean.items()
        tensors["average"] = {name: value.cpu().contiguous() for name, value in mean}
        state.averaged = parts.average.steps
    state.scaler = parts.precision.state()
    digests = {}
    for name, content in sorted(tensors.items()):
        save_file(content, folder / f"{name}.safetensors")
        digests[name] = sha256_of(folder / f"{name}.safetensors")
    whole = asdict(state) | {"sha256": digests}
    whole["sha256_of_state"] = state_digest(whole)
    text = json.dumps(whole, indent=1, sort_keys=True)
    (folder / "state.json").write_text(text, encoding="utf-8")


def load_checkpoint(
    folder: Path, parts: Parts
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Restore the parts in place; return the state and the best weights.

    Raises CheckpointError where files are missing, damaged or of another model;
    nothing is changed then. Faults of a disk or a device are no checkpoint's, and pass.
    """
    from safetensors import SafetensorError

    average: Mapping[str, Tensor] = {}
    try:
        state, tensors = _read(folder)
        _verify(tensors["weights"], parts.model)
        moments = _unflatten(tensors["optimizer"])
        if parts.average is not None:
            average = tensors["average"]
            _verify(average, parts.model)
    except (
        FileNotFoundError, ValueError, TypeError, KeyError, SafetensorError
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{folder}: not a checkpoint of this run ({error})"
        ) from error
    parts.model.load_state_dict(tensors["weights"])
    with torch.no_grad():
        parts.optimizer.load_state_dict(parts.optimizer.state_dict() | moments)
    if parts.average is not None:
        parts.average.load(average, state.averaged)
    if state.scaler:
        parts.precision.load(state.scaler)
    return state, tensors.get("best", {})


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a contiguous copy of the state dict on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }


def state_digest(whole: Mapping[str, Any]) -> str:
    """sha256 of what state.json holds beside it, as canonical JSON."""
    rest = {key: value for key, value in whole.items() if key != "sha256_of_state"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read(folder: Path) -> tuple[TrainingState, dict[str, dict[str, Tensor]]]:
    """All files, each against its checksum."""
    from safetensors.torch import load

    whole = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if whole["sha256_of_state"] != state_digest(whole):
        raise ValueError("state.json is not what was written")
    del whole["sha256_of_state"]
    tensors = {}
    for name, expected in whole.pop("sha256").items():
        data = (folder / f"{name}.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise ValueError(f"{name}.safetensors is not what was written")
        tensors[name] = load(data)
    return TrainingState(**whole), tensors


def _verify(found: Mapping[str, Tensor], model: nn.Module) -> None:
    """ValueError where names or shapes are not the model's."""
    expected = {name: value.shape for name, value in model.state_dict().items()}
    shapes = {name: value.shape for name, value in found.items()}
    if differing := sorted(dict(expected.items() ^ shapes.items())):
        raise ValueError(f"{', '.join(differing[:3])}: not those of the model")


def _flatten(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{place}.{key}": value.detach().cpu().contiguous()
        for place, values in state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _unflatten(tensors: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, key = name.split(".", 1)
        state.setdefault(int(place), {})[key] = tensor
    return {"state": state}
