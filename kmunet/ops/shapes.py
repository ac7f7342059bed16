"""What every version of the selective scan checks and agrees on: shapes and dtypes."""

import torch
from torch import Tensor


def scan_dtype(u: Tensor) -> torch.dtype:
    """The dtype of the states: float32 for half inputs, else that of the input."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def grouped(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """Return B and C as (B, G, N, L). Raises ValueError naming what does not fit."""
    B = B[:, None] if B.dim() == 3 else B
    C = C[:, None] if C.dim() == 3 else C
    if u.dim() != 3 or u.shape[-1] == 0:
        raise ValueError(f"u must be (B, D, L) with L > 0, got {tuple(u.shape)}")
    if delta.shape != u.shape:
        raise ValueError(f"delta {tuple(delta.shape)} must be as u {tuple(u.shape)}")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels:
        raise ValueError(f"A must be ({channels}, N), got {tuple(A.shape)}")
    for name, value in (("B", B), ("C", C)):
        expected = (batch, B.shape[1], A.shape[1], length)
        if tuple(value.shape) != expected or channels % B.shape[1]:
            raise ValueError(
                f"{name} must be (B, G, N, L) = ({batch}, G, {A.shape[1]}, {length}) "
                f"with G dividing {channels}, got {tuple(value.shape)}"
            )
    return B, C
