"""Weights of the published code, checked name by name before anything is loaded."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kmunet.errors import CheckpointError, in_one_line

# The published KM_UNet builds these and never calls them.
UNUSED = frozenset(
    ("dblock1", "dblock2", "dnorm3", "dnorm4", "cbam", "cbam1", "cbam2", "soft")
)
_NAMED_IN_A_MESSAGE = 8


def load_published(
    model: nn.Module, state_dict: Mapping[str, Any] | str | Path
) -> None:
    """Load a published checkpoint: the state dict, a dict that holds one, or a .pth.

    A file is read as tensors alone: nothing in it is run. Tensors of the modules that
    the published model never uses are ignored; a "module." before every name, as
    DataParallel writes it, is taken off. Raises CheckpointError, with the model
    untouched, naming every tensor that is unknown, missing or of another shape, or the
    file that is no such.
    """
    if isinstance(state_dict, str | Path):
        found = _unwrap(_read(Path(state_dict)))
    else:
        found = _unwrap(state_dict)
    tensors = _used(model, _strip(found))
    expected = model.state_dict()
    problems = [
        *_listed("unknown", sorted(tensors.keys() - expected.keys())),
        *_listed("missing", sorted(expected.keys() - tensors.keys())),
        *_listed("not fitting", _misfits(tensors, expected)),
    ]
    if problems:
        raise CheckpointError(
            f"the weights do not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Build the model with the widths, channels, classes and parts that they "
            "were trained with"
        )
    model.load_state_dict(tensors)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; check the path of the weights"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is damaged, and was not run "
            f"({in_one_line(error)}); get the weights from another place, as a "
            "state dict"
        ) from None


def _unwrap(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = state_dict.get("state_dict") if isinstance(state_dict, Mapping) else None
    found = inner if isinstance(inner, Mapping) else state_dict
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(
            "the checkpoint holds no state dict; expected tensors by name, or a dict "
            'with them under "state_dict"'
        )
    return found


def _strip(tensors: Mapping[str, Any]) -> dict[str, Any]:
    if all(str(name).startswith("module.") for name in tensors):
        return {str(n).removeprefix("module."): t for n, t in tensors.items()}
    return {str(name): tensor for name, tensor in tensors.items()}


def _used(model: nn.Module, tensors: dict[str, Any]) -> dict[str, Any]:
    ignored = UNUSED - {name for name, _ in model.named_children()}
    return {n: t for n, t in tensors.items() if n.partition(".")[0] not in ignored}


def _misfits(tensors: dict[str, Any], expected: dict[str, Tensor]) -> list[str]:
    found = []
    for name in sorted(tensors.keys() & expected.keys()):
        want, value = tuple(expected[name].shape), tensors[name]
        if not isinstance(value, Tensor):
            found.append(f"{name} (a {type(value).__name__}, not a tensor)")
        elif tuple(value.shape) != want:
            found.append(f"{name} ({tuple(value.shape)}, expected {want})")
    return found


def _listed(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_NAMED_IN_A_MESSAGE])
    more = len(names) - _NAMED_IN_A_MESSAGE
    return [f"{kind}: {shown}" + (f" and {more} more" if more > 0 else "")]
