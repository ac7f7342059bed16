"""torch.compile on request."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def compiled(model: nn.Module, choice: bool | str) -> Callable[..., Any]:
    """The model itself, or compiled: with True, or with a mode of torch.compile.

    A mode with CUDA graphs writes the outputs of each call over those of the one
    before; it is told when a call begins, by when those are no longer needed.
    """
    if not choice:
        return model
    call: Any = torch.compile(model, mode=None if choice is True else choice)

    def begin(*inputs: Any) -> Any:
        mark: Any = torch.compiler.cudagraph_mark_step_begin
        mark()
        return call(*inputs)

    return begin
