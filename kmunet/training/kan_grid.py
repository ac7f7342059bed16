"""Do inputs of the KAN layers lie on their spline grids? Watch it, or fit the grids.

Outside its grid a spline is 0 and only SiLU is left of the edge (KAN, section 2.3).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kmunet.nn import KANLinear

Hook = Callable[[KANLinear, Tensor], None]


class OutsideShare:
    """The share of numbers outside the grids, over the layers of a model."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._shares = model, list[float]()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what goes through the model inside the block."""
        with _before_each(self._model, self._add):
            yield

    @property
    def share(self) -> float:
        """From 0 to 1; the mean over layers. 0 for a model without KAN."""
        return sum(self._shares) / max(1, len(self._shares))

    def _add(self, layer: KANLinear, x: Tensor) -> None:
        self._shares.append(layer.share_outside(x))


@torch.no_grad()
def fit_grids(model: nn.Module, image: Tensor) -> None:
    """Move every grid to where the inputs of its layer lie for these images, in place.

    In the order of the layers: each sees what the moved ones before it give. Norms
    take the batch's own statistics, as in training, and keep none of it.
    """
    training, before = model.training, _running_statistics(model)
    model.train()
    with _before_each(model, lambda layer, x: layer.update_grid(x)):
        model(image)
    model.train(training)
    for buffer, value in before:
        buffer.copy_(value)


def _running_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    norms = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    return [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]


@contextmanager
def _before_each(model: nn.Module, call: Hook) -> Iterator[None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, KANLinear)
        call(module, inputs[0])

    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
