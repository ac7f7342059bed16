"""The 2-D selective scan of VMamba (arXiv 2401.10166): an image read in four orders.

Row by row, column by column, and both backwards; each order has its own projections
to (dt, B, C) and its own A, D. The four results are added in place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.dispatch import chosen_for, selective_scan
from kmunet.ops.shapes import scan_dtype


def selective_scan_2d(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """Scan x (B, D, H, W) in four orders and return their sum (B, D, H, W).

    x_proj_weight (4, R + 2N, D); dt_projs_weight (4, D, R); dt_projs_bias (4, D);
    A_logs (4D, N), A = -exp(A_logs); Ds (4D). Computed in float32, or float64 for
    float64 input, whatever autocast says; returned in that dtype.
    """
    with torch.autocast(x.device.type, enabled=False):
        dtype = scan_dtype(x)
        parameters = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
        fused = chosen_for(x).scan_2d if dtype == torch.float32 else None
        scan = fused or _four_orders
        return scan(x.to(dtype), *(p.to(dtype) for p in parameters))


def _four_orders(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    # Time first and channels last, (L, B, 4, D), so that every reordering copies whole
    # rows of channels; the scan reads it through a view.
    (_, _, height, width), states = x.shape, A_logs.shape[1]
    rank = dt_projs_weight.shape[2]
    pixels = x.permute(2, 3, 0, 1).contiguous()  # (H, W, B, D)
    # A pixel's projections do not depend on the order in which it is read.
    projected = F.linear(pixels, x_proj_weight.flatten(0, 1))
    projected = torch.unflatten(projected, 3, (4, -1))
    projected = _unfold([projected[..., k, :] for k in range(4)])
    dt, B, C = torch.split(projected, [rank, states, states], dim=3)
    dt = torch.einsum("lbkr,kdr->lbkd", dt, dt_projs_weight)
    y = selective_scan(
        _channels_first(_unfold([pixels] * 4)).flatten(1, 2),
        _channels_first(dt).flatten(1, 2),
        -torch.exp(A_logs),
        _channels_first(B),
        _channels_first(C),
        Ds,
        delta_bias=dt_projs_bias.flatten(),
        delta_softplus=True,
    )
    y = torch.unflatten(y, 1, (4, -1)).permute(3, 0, 1, 2)
    return _fold(y, height, width).permute(2, 3, 0, 1)


def _channels_first(x: Tensor) -> Tensor:
    """(L, B, 4, D) -> (B, 4, D, L), a view."""
    return x.permute(1, 2, 3, 0)


def _unfold(x: list[Tensor]) -> Tensor:
    """Four (H, W, B, D) -> (L, B, 4, D): rows, columns, and both reversed."""
    return torch.stack(
        [
            x[0].flatten(0, 1),
            x[1].transpose(0, 1).flatten(0, 1),
            x[2].flatten(0, 1).flip(0),
            x[3].transpose(0, 1).flatten(0, 1).flip(0),
        ],
        dim=2,
    )


def _fold(y: Tensor, height: int, width: int) -> Tensor:
    """(L, B, 4, D) -> (H, W, B, D): each order put back in place, and added."""
    rows = y[:, :, 0] + y[:, :, 2].flip(0)
    columns = y[:, :, 1] + y[:, :, 3].flip(0)
    columns = torch.unflatten(columns, 0, (width, height)).transpose(0, 1)
    return torch.unflatten(rows, 0, (height, width)) + columns
