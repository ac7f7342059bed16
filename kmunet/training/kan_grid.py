"""Do inputs of the KAN layers lie on their spline grids? Watch it, or fit the grids.

Outside its grid a spline is 0 and only SiLU is left of the edge (KAN, section 2.3).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kmunet.nn import KANLinear
from kmunet.training.ranks import gather

Hook = Callable[[KANLinear, Tensor], None]


class OutsideShare:
    """How many of the numbers that go into KAN layers lie outside their grids.

    `sums`, float64 (2,): the shares of the layers, each as often as it has seen an
    image, and how often that is. The mean is their ratio, over ranks too.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model = model
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what goes through the model inside the block."""
        with _before_each(self._model, self._add):
            yield

    def _add(self, layer: KANLinear, x: Tensor) -> None:
        images = float(len(x))
        counts = torch.tensor([layer.share_outside(x) * images, images])
        self.sums += counts.to(self.sums)


def has_grids(model: nn.Module) -> bool:
    """Whether there are KAN layers in it."""
    return any(isinstance(module, KANLinear) for module in model.modules())


@torch.no_grad()
def fit_grids(model: nn.Module, image: Tensor, world_size: int = 1) -> None:
    """Move every grid to where the inputs of its layer lie for these images, in place.

    `image` is this rank's share of a batch; all ranks fit to the inputs of all. In the
    order of the layers: each sees what the moved ones before it give. Norms take the
    batch's own statistics, as in training, and keep none of it; nothing is random.
    """
    training = model.training
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    model.eval()
    for norm in norms:
        norm.train()
    with _before_each(
        model, lambda layer, x: layer.update_grid(_of_all_ranks(x, world_size))
    ):
        model(image)
    model.train(training)
    for buffer, value in before:
        buffer.copy_(value)


def _of_all_ranks(x: Tensor, world_size: int) -> Tensor:
    """(n, ...), n of each rank's own -> (sum of n, ...) in the order of the ranks."""
    if world_size == 1:
        return x
    count = torch.tensor([len(x)], dtype=torch.float64, device=x.device)
    counts = [int(row[0]) for row in gather(count, world_size)]
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])


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
