"""The optimizer over the model's parameter groups, and the learning-rate schedule."""

import math
from typing import TYPE_CHECKING, Any

from torch import nn, optim

from kmunet.models.parameter_groups import parameter_groups

if TYPE_CHECKING:
    from kmunet.config import TrainParams


def build_optimizer(model: nn.Module, params: "TrainParams") -> optim.Optimizer:
    """Return Adam, AdamW or SGD (momentum 0.9) over groups by module type."""
    groups: list[dict[str, Any]] = parameter_groups(
        model,
        lr=params.lr,
        kan_lr=params.kan_lr,
        weight_decay=params.weight_decay,
    )
    for group in groups:
        group["base_lr"] = group["lr"]
    # fused: one pass over each tensor, a third of the time.
    if params.optimizer == "adam":
        return optim.Adam(groups, fused=True)
    if params.optimizer == "adamw":
        return optim.AdamW(groups, fused=True)
    return optim.SGD(groups, momentum=0.9, fused=True)


def set_learning_rate(
    optimizer: optim.Optimizer, epoch: int, epochs: int, min_lr: float
) -> None:
    """Cosine from each group's base rate to `min_lr` (SGDR, eq. 5, no restart).

    A closed form of `epoch` (from 0): resuming needs no scheduler state.
    """
    share = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    for group in optimizer.param_groups:
        floor = min(min_lr, group["base_lr"])
        group["lr"] = floor + (group["base_lr"] - floor) * share
