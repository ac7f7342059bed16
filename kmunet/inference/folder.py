"""The folder of a trained model, read and checked.

model.json (how to build it and what it sees), model.safetensors, history.csv.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from kmunet.errors import CheckpointError, KMUNetError, in_one_line
from kmunet.models import build_model

_REMEDY = "train again (`dvc repro train@<data set>`) or restore it (`dvc checkout`)"


def read_spec(path: Path) -> dict[str, Any]:
    """model.json with its `model` and `input`. CheckpointError names what is wrong."""
    try:
        spec = json.loads(_existing(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); {_REMEDY}") from None
    try:
        _check_model(spec["model"], len(spec.get("classes", ["lesion"])))
        _check_input(spec["input"])
    except KeyError as error:
        raise CheckpointError(f"{path}: key {error} is missing; {_REMEDY}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}; {_REMEDY}") from None
    return dict(spec)


def read_model(path: Path, arguments: dict[str, Any]) -> nn.Module:
    """The model that `arguments` of build_model describe, with the weights of `path`.

    CheckpointError if the file is missing or its tensors are not the model's.
    """
    try:
        weights = load_file(_existing(path))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); {_REMEDY}"
        ) from None
    model = _build(path.with_name("model.json"), arguments)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = in_one_line(error, 300)
        raise CheckpointError(
            f"{path}: the weights do not fit the model of model.json: {reason}; "
            f"the two files belong to different runs: {_REMEDY}"
        ) from None
    return model


def read_history(path: Path) -> list[dict[str, float]]:
    """history.csv, a row an epoch. CheckpointError if it is missing or broken."""
    needed = {"epoch", "train_loss", "val_loss", "val_iou"}
    with _existing(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = needed - set(reader.fieldnames or ())
            if missing:
                raise CheckpointError(f"{path}: no column {min(missing)}; {_REMEDY}")
            rows = [{key: float(row[key]) for key in row} for row in reader]
        except (TypeError, ValueError, csv.Error) as error:
            raise CheckpointError(f"{path}: {error}; {_REMEDY}") from None
    return [{**row, "epoch": int(row["epoch"])} for row in rows]


def _build(path: Path, arguments: dict[str, Any]) -> nn.Module:
    try:
        return build_model(**arguments)
    except (TypeError, ValueError, KMUNetError) as error:
        raise CheckpointError(f"{path}: key 'model': {error}; {_REMEDY}") from None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {_REMEDY}")
    return path


def _check_model(model: dict[str, Any], classes: int) -> None:
    maps = 1 if classes == 1 else classes + 1  # the background has one beside several
    for key, default, needed in (("in_channels", 3, 3), ("num_classes", 1, maps)):
        if model.get(key, default) != needed:
            raise ValueError(
                f"key 'model.{key}' is {model.get(key, default)}, but an RGB image "
                f"and {classes} in 'classes' need {needed}"
            )
    if not isinstance(model["name"], str):
        raise TypeError("key 'model.name' must be a name that build_model knows")


def _check_input(seen: dict[str, Any]) -> None:
    if not isinstance(seen["size"], int) or seen["size"] < 1:
        raise ValueError("key 'input.size' must be a positive number of pixels")
    for key in ("mean", "std"):
        values = seen[key]
        if len(values) != 3 or not all(math.isfinite(value) for value in values):
            raise ValueError(f"key 'input.{key}' must be three finite numbers")
    if min(seen["std"]) <= 0:
        raise ValueError("key 'input.std' must be above 0")
