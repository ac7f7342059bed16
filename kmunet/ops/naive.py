"""The selective scan as a plain recursion: the truth that faster versions are held to.

Mamba (arXiv 2312.00752), equations 2 and 4, with the mixed discretization of
mamba-ssm: h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t,  y_t = <C_t, h_t> + D u_t.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.shapes import grouped, scan_dtype


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan step by step under autograd; slow, and all states stay in memory.

    Shapes: u, delta (B, D, L); A (D, N); B, C (B, G, N, L) or (B, N, L), G dividing D;
    D, delta_bias (D). Returns y (B, D, L) in the dtype of u; half inputs are scanned
    in float32. Raises ValueError for shapes that do not fit.
    """
    dtype = scan_dtype(u)
    B, C = grouped(u, delta, A, B, C, D, delta_bias)
    out_dtype, per_group = u.dtype, u.shape[1] // B.shape[1]
    u, delta, A = u.to(dtype), delta.to(dtype), A.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    # (B, D, N, L): each group's B and C serve all channels of the group.
    B = B.to(dtype).repeat_interleave(per_group, dim=1)
    C = C.to(dtype).repeat_interleave(per_group, dim=1)
    y = _recursion(u, delta, A, B, C)
    if D is not None:
        y = y + u * D.to(dtype)[:, None]
    return y.to(out_dtype)


def _recursion(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    state = torch.zeros_like(B[..., 0])
    outputs = []
    # unbind, not indexing: the gradient of a slice is a tensor of full length.
    for u_t, dt, B_t, C_t in zip(
        u.unbind(-1), delta.unbind(-1), B.unbind(-1), C.unbind(-1), strict=True
    ):
        decay = torch.exp(dt[..., None] * A)
        state = decay * state + (dt * u_t)[..., None] * B_t
        outputs.append((state * C_t).sum(-1))
    return torch.stack(outputs, dim=-1)
