"""The selective scan of Mamba (arXiv 2312.00752) by whichever version is in use."""

import torch
from torch import Tensor

from kmunet.ops.dispatch import get, name_for, setting
from kmunet.ops.library import full_precision, keeps, scan
from kmunet.ops.shapes import grouped


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
    """h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t;  y_t = <C_t, h_t> + D u_t.

    Shapes: u, delta (B, D, L); A (D, N); B, C (B, G, N, L) or (B, N, L), G dividing D;
    D, delta_bias (D). Returns y (B, D, L) in the dtype of u. Semantics of mamba-ssm.
    States are float32, or float64 for float64 u, whatever autocast says. First
    derivatives only, but for backend "naive". Raises ValueError for shapes that do not
    fit.
    """
    B, C = grouped(u, delta, A, B, C)
    asked = setting()
    name = name_for(asked, u.device.type, u.dtype == torch.float64)
    tensors = (u, delta, A, B, C, D, delta_bias)
    with full_precision(u.device.type):
        plain = get(name).scan
        if plain is not None:
            return plain(*tensors, delta_softplus)
        keep = keeps(*tensors)
        # Kept states have one version's form; without them the choice stays open.
        y: Tensor = scan(*tensors, delta_softplus, name if keep else asked, keep)[0]
    return y
