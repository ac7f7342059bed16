"""MONAI's losses, imported when one is used: a machine that trains may lack MONAI."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


@cache
def monai_loss(name: str, **options: Any) -> Loss:
    """Return the loss of monai.losses with this name and these options, made once."""
    import monai.losses

    loss: Loss = getattr(monai.losses, name)(**options)
    return loss


@cache
def boundary_loss(**options: Any) -> Loss:
    """Return MONAI's BoundaryLoss, with a target's distances computed once.

    With deep supervision the same target comes four times a step, and distances are
    four fifths of a step's loss.
    """
    loss: Any = monai_loss("BoundaryLoss", **options)
    loss.compute_distance_map = _remembered(loss.compute_distance_map)
    return loss  # type: ignore[no-any-return]


def _remembered(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`compute` that knows what it gave for the last argument."""
    last: list[Tensor] = []

    def found(x: Tensor) -> Tensor:
        if not last or last[0].device != x.device or not torch.equal(last[0], x):
            last[:] = x.clone(), compute(x)
        return last[1]

    return found
