"""What every version of the selective scan checks and agrees on: shapes and dtypes."""

from collections.abc import Mapping

import torch
from torch import Tensor

WEIGHTS = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")


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
    if u.dim() != 3 or 0 in u.shape[1:]:
        raise ValueError(f"u must be (B, D, L) with D, L > 0, got {tuple(u.shape)}")
    given = {"delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    check_numbers("u", u, given)
    B = B[:, None] if B.dim() == 3 else B
    C = C[:, None] if C.dim() == 3 else C
    if delta.shape != u.shape:
        raise ValueError(f"delta {tuple(delta.shape)} must be as u {tuple(u.shape)}")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
        raise ValueError(f"A must be ({channels}, N) with N > 0, got {tuple(A.shape)}")
    for name, value in (("B", B), ("C", C)):
        groups = B.shape[1] if B.dim() == 4 else 0
        expected = (batch, groups, A.shape[1], length)
        if tuple(value.shape) != expected or not groups or channels % groups:
            raise ValueError(
                f"{name} must be (B, G, N, L) = ({batch}, G, {A.shape[1]}, {length}) "
                f"with G dividing {channels}, got {tuple(value.shape)}"
            )
    for name, vector in (("D", D), ("delta_bias", delta_bias)):
        if vector is not None and tuple(vector.shape) != (channels,):
            raise ValueError(f"{name} must be ({channels},), got {tuple(vector.shape)}")
    return B, C


def check_numbers(name: str, x: Tensor, others: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError for what is not real, or not on the device of x."""
    for key, tensor in {name: x, **others}.items():
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise ValueError(f"{key} must be of real numbers, not {tensor.dtype}")
        if tensor.device != x.device:
            raise ValueError(
                f"{key} is on {tensor.device}, {name} on {x.device}: move one of them"
            )


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
    weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    check_numbers("the image", pixels, dict(zip(WEIGHTS, weights, strict=True)))
    channels = pixels.shape[-1]
    states, rank = A_logs.shape[-1], dt_projs_weight.shape[-1]
    shapes = (
        (4, rank + 2 * states, channels),
        (4, channels, rank),
        (4, channels),
        (4 * channels, states),
        (4 * channels,),
    )
    for name, tensor, shape in zip(WEIGHTS, weights, shapes, strict=True):
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(
                f"{name} must be {shape}, all above 0, got {tuple(tensor.shape)}"
            )
