"""Golden values of the published KM-UNet, and the weights and inputs they stand for.

`km_unet.npz` was computed in float64 by the published code. Each tensor of its state
dict is filled from its place in that dict, from numpy's frozen legacy stream.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kmunet.models import build_model, load_published

FILE = Path(__file__).with_name("km_unet.npz")
OWN_VALUE = ("A_logs", "grid", "num_batches_tracked")  # as the model starts them


def fill(index: int, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    stream = np.random.RandomState(1000 + index)
    leaf = name.rsplit(".", 1)[-1]
    if leaf in OWN_VALUE:
        return None
    if leaf == "Ds":
        return 1 + 0.1 * stream.standard_normal(shape)
    if leaf == "dt_projs_bias":
        dt = np.exp(stream.uniform(math.log(1e-3), math.log(1e-1), shape))
        return dt + np.log(-np.expm1(-dt))
    if leaf == "running_var":
        return stream.uniform(0.5, 1.5, shape)
    if leaf in ("running_mean", "bias"):
        return 0.1 * stream.standard_normal(shape)
    if len(shape) == 1:
        return 1 + 0.1 * stream.standard_normal(shape)
    if leaf in ("x_proj_weight", "dt_projs_weight"):
        return stream.standard_normal(shape) / math.sqrt(shape[2])
    if leaf == "spline_weight":
        return 0.3 * stream.standard_normal(shape) / math.sqrt(shape[1])
    fan_in = int(np.prod(shape[1:]))
    return stream.standard_normal(shape) * math.sqrt(2.0 / fan_in)


def _own_value(name: str, shape: tuple[int, ...], like: dict) -> torch.Tensor:
    if name in like:
        return like[name].clone()
    leaf = name.rsplit(".", 1)[-1]
    return torch.tensor(0) if leaf == "num_batches_tracked" else torch.zeros(shape)


@dataclass(frozen=True)
class Golden:
    """The stored values, and the model and inputs to compare with them."""

    values: dict[str, np.ndarray]

    @staticmethod
    def image(n: int, size: int, dtype: torch.dtype) -> torch.Tensor:
        stream = np.random.RandomState(7)
        return torch.tensor(stream.standard_normal((n, 3, size, size)), dtype=dtype)

    @staticmethod
    def mask(n: int, size: int, dtype: torch.dtype) -> torch.Tensor:
        y, x = np.mgrid[:size, :size] / size
        discs = [(y - 0.5) ** 2 + (x - 0.4 - 0.05 * i) ** 2 < 0.08 for i in range(n)]
        return torch.tensor(np.stack(discs)[:, None], dtype=dtype)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        pairs = zip(self.values["names"], self.values["shapes"], strict=True)
        return {str(name): tuple(json.loads(str(shape))) for name, shape in pairs}

    def state_dict(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """All 401 published tensors, in the dtype of the model."""
        like, dtype = model.state_dict(), next(model.parameters()).dtype
        found = {}
        for index, (name, shape) in enumerate(self.shapes().items()):
            value = fill(index, name, shape)
            found[name] = (
                _own_value(name, shape, like)
                if value is None
                else torch.tensor(value, dtype=dtype)
            )
        return found

    def model(self, dtype: torch.dtype) -> nn.Module:
        """KM-UNet with these weights; float64 from the start, as the reference was."""
        torch.set_default_dtype(dtype)
        try:
            model = build_model("km_unet")
        finally:
            torch.set_default_dtype(torch.float32)
        load_published(model, self.state_dict(model))
        return model


@pytest.fixture(scope="session")
def golden() -> Golden:
    with np.load(FILE) as stored:
        return Golden({key: stored[key] for key in stored.files})
