"""Matrix products of a shape that a GPU's library serves badly, in torch."""

import math

from torch import Tensor, bmm, stack

PARTS = 64


def by_direction(left: Tensor, right: Tensor) -> Tensor:
    """left^T right of each direction: (P, K, D), (P, K, R) -> (K, D, R).

    So long a sum with so small a result leaves a GPU idle as K products. It is cut into
    parts, and all pairs of directions are computed, which copies nothing.
    """
    (pixels, K, D), R = left.shape, right.shape[2]
    parts = math.gcd(pixels, PARTS)
    pairs = bmm(
        left.reshape(parts, -1, K * D).transpose(1, 2),
        right.reshape(parts, -1, K * R),
    )
    pairs = pairs.sum(0).view(K, D, K, R)
    return stack([pairs[k, :, k] for k in range(K)])
