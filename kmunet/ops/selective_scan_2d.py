"""The 2-D selective scan of VMamba (arXiv 2401.10166): an image read in four orders.

Row by row, column by column, and both backwards; each order has its own projections
to (dt, B, C) and its own A, D. The four results are added in place.
"""

import torch
from torch import Tensor

from kmunet.ops.dispatch import selective_scan
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
        return _four_orders(x.to(dtype), *(p.to(dtype) for p in parameters))


def _four_orders(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    (batch, channels, height, width), states = x.shape, A_logs.shape[1]
    rank = dt_projs_weight.shape[2]
    sequences = _unfold(x)
    projected = torch.einsum("bkdl,kcd->bkcl", sequences, x_proj_weight)
    dt, B, C = projected.split([rank, states, states], dim=2)
    dt = torch.einsum("bkrl,kdr->bkdl", dt, dt_projs_weight)
    y = selective_scan(
        sequences.flatten(1, 2),
        dt.flatten(1, 2),
        -torch.exp(A_logs),
        B,
        C,
        Ds,
        delta_bias=dt_projs_bias.flatten(),
        delta_softplus=True,
    )
    return _fold(y.view(batch, 4, channels, -1), height, width)


def _unfold(x: Tensor) -> Tensor:
    """(B, D, H, W) -> (B, 4, D, L): rows, columns, rows reversed, columns reversed."""
    forward = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
    return torch.cat([forward, forward.flip(-1)], dim=1)


def _fold(y: Tensor, height: int, width: int) -> Tensor:
    """(B, 4, D, L) -> (B, D, H, W): each order put back in place, and added."""
    forward = y[:, :2] + y[:, 2:].flip(-1)
    rows = forward[:, 0].unflatten(-1, (height, width))
    columns = forward[:, 1].unflatten(-1, (width, height))
    return rows + columns.transpose(2, 3)
