"""MONAI's losses, imported when one is used: a machine that trains may lack MONAI."""

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


@cache
def monai_loss(name: str, **options: Any) -> Loss:
    """Return the loss of monai.losses with this name and these options, made once."""
    import monai.losses

    loss: Loss = getattr(monai.losses, name)(**options)
    return loss
