"""Whether there is anything in an image at all, learnt beside where it is.

Soft Dice hardly tells one mask from another where nothing is to be found, and pixels'
cross-entropy counts a false alarm by its few pixels: a network taught by them draws
something everywhere. An image's own decision guards what is drawn, as in UNet 3+'s
classification-guided module (arXiv 2004.08790, sec. 2.3); here any network can have it.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-12  # probability of the background


class Decided(NamedTuple):
    """What training gets, one of each a depth."""

    logits: tuple[Tensor, ...]  # (B, num_classes, H, W)
    present: tuple[Tensor, ...] = ()  # logits (B, classes)


class PresenceGate(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W), float32.

    `network` gives `evidence_maps` logits more than that, after the others: a class's
    evidence to be anywhere. A class's probability is at no pixel above that of its
    presence, which is judged by all of its evidence (`pool`). Logits of several classes
    are the logarithms of their probabilities. In training `Decided`.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor | Decided:
        maps = [each.float() for each in depths(self.network(x))]
        logits = tuple(each[:, : self.num_classes] for each in maps)
        present = tuple(pool(each[:, self.num_classes :]) for each in maps)
        if self.training:
            return Decided(logits, present)
        return gate(logits[0], present[0])


def depths(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a network gives: of every depth with deep supervision, of one without."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def evidence_maps(num_classes: int) -> int:
    """One a class; beside several the background has a map, and needs no evidence."""
    return max(1, num_classes - 1)


def pool(evidence: Tensor) -> Tensor:
    """Evidence (B, classes, H, W) -> logits of presence (B, classes).

    log(mean(exp(evidence))): odds are those that pixels have on average. It is smooth,
    the same for any number of pixels, and hears a few that are sure.
    """
    pixels = evidence.flatten(2)
    return pixels.logsumexp(2) - math.log(pixels.shape[2])


def gate(logits: Tensor, present: Tensor) -> Tensor:
    """Logits (B, C, H, W) whose probabilities are at most those of (B, classes)."""
    present = present[:, :, None, None]
    if logits.shape[1] == 1:
        return torch.minimum(logits, present)
    classes = torch.minimum(logits.log_softmax(1)[:, 1:], F.logsigmoid(present))
    background = 1 - classes.exp().sum(1, keepdim=True)
    return torch.cat((background.clamp_min(LEAST).log(), classes), 1)
