"""Weight averaging: an exponential moving average of the weights (Polyak & Juditsky).

Not to be taken for EMA, the paper's efficient multi-scale attention.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The mean that `decay` keeps after each step; young ones forget faster.

    After step t the decay is min(decay, (1 + t) / (10 + t)). Running statistics of
    norms are averaged as the weights are; whole numbers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.restart()

    def restart(self) -> None:
        """Forget all steps: from the model as it is."""
        self.steps = 0
        self.mean = {n: v.detach().clone() for n, v in self.model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model as it is after a step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = self.model.state_dict()
        real = [name for name, value in self.mean.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.mean[name] for name in real], [now[name] for name in real], 1 - keep
        )
        for name in self.mean.keys() - set(real):
            self.mean[name].copy_(now[name])

    def load(self, mean: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint."""
        self.steps = steps
        for name, value in self.mean.items():
            value.copy_(mean[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the mean inside, and its own weights again after."""
        own = {n: v.detach().clone() for n, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.model.load_state_dict(own)
