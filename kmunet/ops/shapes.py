"""What every version of the selective scan checks and agrees on: shapes and dtypes."""

import torch
from torch import Tensor


def scan_dtype(u: Tensor) -> torch.dtype:
    """The dtype of the states: float32 for half inputs, else that of the input."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def grouped(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return B and C as (B, G, N, L). Raises ValueError naming what does not fit."""
    B = B[:, None] if B.dim() == 3 else B
    C = C[:, None] if C.dim() == 3 else C
    if u.dim() != 3 or u.shape[-1] == 0:
        raise ValueError(f"u must be (B, D, L) with L > 0, got {tuple(u.shape)}")
    if delta.shape != u.shape:
        raise ValueError(f"delta {tuple(delta.shape)} must be as u {tuple(u.shape)}")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
        raise ValueError(f"A must be ({channels}, N) with N > 0, got {tuple(A.shape)}")
    for name, value in (("B", B), ("C", C)):
        expected = (batch, B.shape[1], A.shape[1], length)
        if tuple(value.shape) != expected or channels % max(B.shape[1], 1):
            raise ValueError(
                f"{name} must be (B, G, N, L) = ({batch}, G, {A.shape[1]}, {length}) "
                f"with G dividing {channels}, got {tuple(value.shape)}"
            )
    for name, vector in (("D", D), ("delta_bias", delta_bias)):
        if vector is not None and tuple(vector.shape) != (channels,):
            raise ValueError(f"{name} must be ({channels},), got {tuple(vector.shape)}")
    return B, C


def check_2d(
    pixels: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> None:
    """Raise ValueError naming what does not fit pixels (B, H, W, D) with H W > 0."""
    if pixels.dim() != 4 or 0 in pixels.shape[1:]:
        shape = tuple(pixels.shape)
        raise ValueError(f"the image must be (B, H, W, D), channels last: {shape}")
    channels = pixels.shape[-1]
    states, rank = A_logs.shape[-1], dt_projs_weight.shape[-1]
    expected = {
        "x_proj_weight": (x_proj_weight, (4, rank + 2 * states, channels)),
        "dt_projs_weight": (dt_projs_weight, (4, channels, rank)),
        "dt_projs_bias": (dt_projs_bias, (4, channels)),
        "A_logs": (A_logs, (4 * channels, states)),
        "Ds": (Ds, (4 * channels,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(
                f"{name} must be {shape}, all above 0, got {tuple(tensor.shape)}"
            )
