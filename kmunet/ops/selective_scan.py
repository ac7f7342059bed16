"""The selective scan of Mamba (arXiv 2312.00752) by whichever version is in use."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kmunet.ops.dispatch import get, name_for, setting
from kmunet.ops.library import keeps, scan
from kmunet.ops.precision import full_precision
from kmunet.ops.shapes import grouped, scan_dtype


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t;  y_t = (<C_t, h_t> + D u_t) SiLU(z_t).

    Shapes: u, delta, z (B, D, L); A (D, N); B, C (B, G, N, L) or (B, N, L), G dividing
    D; D, delta_bias (D). Returns y (B, D, L) in the dtype of u, and with
    `return_last_state` h_L (B, D, N), which has no gradient. Arguments, order and
    semantics of mamba-ssm's `selective_scan_fn`, but for B and C that do not vary and
    complex A. States are float32, or float64 for float64 u, whatever autocast says.
    First derivatives only, but for backend "naive". Raises ValueError for shapes that
    do not fit.
    """
    if z is not None and z.shape != u.shape:
        raise ValueError(f"z {tuple(z.shape)} must be as u {tuple(u.shape)}")
    B, C = grouped(u, delta, A, B, C, D, delta_bias)
    with full_precision(u.device.type):
        dtype = scan_dtype(u)
        x = u if z is None else u.to(dtype)  # y and its gate are rounded once
        y = outputs(x, delta, A, B, C, D, delta_bias, delta_softplus)
        if z is not None:
            y = (y * F.silu(z.to(dtype))).to(u.dtype)
        if return_last_state:
            return y, _last_state(u, delta, A, B, delta_bias, delta_softplus)
    return y


def outputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """y without z, of B and C (B, G, N, L), outside autocast."""
    asked = setting()
    name = name_for(asked, u.device.type, u.dtype == torch.float64)
    tensors = (u, delta, A, B, C, D, delta_bias)
    plain = get(name).scan
    if plain is not None:
        return plain(*tensors, delta_softplus)
    keep = keeps(*tensors)
    # Kept states have one version's form; without them the choice stays open.
    y: Tensor = scan(*tensors, delta_softplus, name if keep else asked, keep)[0]
    return y


@torch.no_grad()
def _last_state(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, bias: Tensor | None, softplus: bool
) -> Tensor:
    """h_L = sum over t of exp(A (dt_(t+1) + ... + dt_L)) dt_t u_t B_t, (B, D, N)."""
    dtype = scan_dtype(u)
    dt = delta.to(dtype) if bias is None else delta.to(dtype) + bias.to(dtype)[:, None]
    dt = F.softplus(dt) if softplus else dt
    after = _sums_after(dt)
    B = B.to(dtype).repeat_interleave(u.shape[1] // B.shape[1], dim=1)
    weighted = dt * u.to(dtype)
    states = [  # one at a time: (B, D, N, L) would be N times u
        (torch.exp(after * A[:, n, None].to(dtype)) * weighted * B[:, :, n]).sum(-1)
        for n in range(A.shape[1])
    ]
    return torch.stack(states, dim=-1)


def _sums_after(x: Tensor) -> Tensor:
    """The sum of what follows each number along the last axis, by doubling.

    Not a cumulative sum less the number itself: beside a large one the small digits
    would be lost. And torch's has no deterministic version on a GPU.
    """
    sums, reach = F.pad(x[..., 1:], (0, 1)), 1
    while reach < x.shape[-1]:
        sums, reach = sums + F.pad(sums[..., reach:], (0, reach)), 2 * reach
    return sums
