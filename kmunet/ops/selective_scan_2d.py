"""The 2-D selective scan of VMamba (arXiv 2401.10166): an image read in four orders.

Row by row, column by column, and both backwards; each order has its own projections
to (dt, B, C) and its own A, D. The four results are added in place.
"""

import torch
from torch import Tensor

from kmunet.ops.composed import four_orders
from kmunet.ops.dispatch import get, name_for, setting
from kmunet.ops.library import keeps
from kmunet.ops.library_2d import scan_2d
from kmunet.ops.precision import full_precision
from kmunet.ops.shapes import check_2d, scan_dtype


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
    float64 input, whatever autocast says; returned in that dtype, channels last.
    Raises ValueError for shapes that do not fit.
    """
    weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    check_2d(x.movedim(1, -1), *weights)
    asked, dtype = setting(), scan_dtype(x)
    name = name_for(asked, x.device.type, dtype == torch.float64)
    with full_precision(x.device.type):
        if get(name).kernels_2d is None or dtype == torch.float64:
            return four_orders(x.to(dtype), *(p.to(dtype) for p in weights))
        keep = keeps(x, *weights)
        pixels = x.permute(0, 2, 3, 1).contiguous()
        y: Tensor = scan_2d(pixels, *weights, name if keep else asked, keep)[0]
    return y.permute(0, 3, 1, 2)
