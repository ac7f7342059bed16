"""Means and squared deviations of parts, as those of the whole.

Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances" (1979): no difference of large sums, so a mean far from 0 costs no digits.
"""

import torch
from torch import Tensor


def packed(moments: Tensor, count: int) -> Tensor:
    """(2, C) means and squared deviations of `count` values -> (2 C + 1) to be sent."""
    return torch.cat([moments.flatten(), moments.new_tensor([float(count)])])


def combined(parts: Tensor) -> tuple[Tensor, float]:
    """`packed` moments (R, 2 C + 1) of R parts, float64 -> (2, C) and how many values.

    A part may be empty, not all of them.
    """
    counts = parts[:, -1:]
    means, deviations = parts[:, :-1].chunk(2, 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    between = (counts * (means - mean).square()).sum(0)
    return torch.stack([mean, deviations.sum(0) + between]), float(total)
