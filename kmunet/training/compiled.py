"""torch.compile on request."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kmunet.errors import TrainingError, in_one_line


def compiled(model: nn.Module, choice: bool | str) -> Callable[..., Any]:
    """The model itself, or compiled: with True, or with a mode of torch.compile.

    A mode with CUDA graphs writes the outputs of each call over those of the one
    before; it is told when a call begins, by when those are no longer needed. Calls
    raise TrainingError where torch's compiler fails.
    """
    if not choice:
        return model
    from torch._dynamo.exc import TorchDynamoException  # a second, for who compiles

    call: Any = torch.compile(model, mode=None if choice is True else choice)

    def begin(*inputs: Any) -> Any:
        mark: Any = torch.compiler.cudagraph_mark_step_begin
        mark()
        try:
            return call(*inputs)
        except TorchDynamoException as error:
            raise TrainingError(
                f"train.compile: the compiler of torch {torch.__version__} fails on "
                f"this model ({in_one_line(error)}): set train.compile to false"
            ) from error

    return begin
