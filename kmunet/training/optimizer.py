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
    # A fused SGD whose first step float16 leaves out keeps what was in memory as its
    # momentum.
    return optim.SGD(groups, momentum=0.9, fused=params.precision != "float16")


def set_learning_rate(
    optimizer: optim.Optimizer,
    params: "TrainParams",
    epoch: int,
    share_done: float = 0.0,
    spent: float | None = None,
) -> None:
    """Cosine from each group's base rate to `min_lr` (SGDR, eq. 5, no restart).

    In the first `warmup` epochs the rate rises linearly with each step instead
    (arXiv 1706.02677, section 2.2): `share_done` is the part of `epoch` (from 0) done
    after this step. A closed form: resuming needs no scheduler state. `spent`: the
    part of a budget, which the cosine follows instead of the epochs.
    """
    rise, fallen = 1.0, 0.0
    if epoch < params.warmup:
        rise = (epoch + share_done) / params.warmup
    elif spent is not None:
        fallen = spent
    else:
        fallen = (epoch - params.warmup) / (params.epochs - params.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * fallen))
    for group in optimizer.param_groups:
        floor = min(params.min_lr, group["base_lr"])
        group["lr"] = (floor + (group["base_lr"] - floor) * cosine) * rise
