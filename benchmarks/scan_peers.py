"""Other people's selective scans, behind the dispatch of `kmunet.ops`.

Each then runs inside the same 2-D scan, so that only the recursion differs.
"""

import importlib.util
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import OURS
from kmunet.errors import ConfigError
from kmunet.ops import backend, backends, use_backend
from kmunet.ops.dispatch import Backend, register
from kmunet.ops.shapes import grouped

MAMBAPY = "mambapy"
REFERENCE = "reference"  # by index, as selective_scan_ref of mamba-ssm
_ONE_DEVICE = ("cpu", "cuda")  # backends that are named for the device they need


def choose_scan(peer: str) -> None:
    """Make every scan of this process run as `peer` does it."""
    if peer == OURS:
        return
    if peer == MAMBAPY:
        register(Backend(MAMBAPY, mambapy_scan))
    if peer == REFERENCE:
        register(Backend(REFERENCE, reference_scan))
    use_backend(peer)


def others(device: str) -> list[str]:
    """All other scans that this machine has, our own slower ones included."""
    found = []
    for name in backends()[1:]:
        wrong = name in _ONE_DEVICE and name != device
        if wrong or name == backend(device):
            continue
        with suppress(ConfigError), use_backend(name):
            found.append(name)
    if importlib.util.find_spec(MAMBAPY):
        found.append(MAMBAPY)
    return found


def mambapy_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """mambapy's Blelloch scan; what stands around it as in its Mamba block."""
    from mambapy.pscan import pscan

    B, C = grouped(u, delta, A, B, C)
    groups, dt = B.shape[1], _steps(delta, delta_bias, delta_softplus).transpose(1, 2)
    decay = torch.exp(dt[..., None] * A)  # (B, L, D, N)
    step = torch.unflatten(dt * u.transpose(1, 2), 2, (groups, -1))
    added = step[..., None] * B.permute(0, 3, 1, 2)[:, :, :, None]
    h = torch.unflatten(pscan(decay, added.flatten(2, 3)), 2, (groups, -1))
    y = (h @ C.permute(0, 3, 1, 2)[..., None]).squeeze(-1).flatten(2, 3)
    return _with_skip(y.transpose(1, 2), u, D)


def reference_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """The recursion over slices of whole tensors: what runs where no kernel does.

    All decays and inputs lie in memory, and step t reads a slice of each: the gradient
    of a slice is as long as the whole, so the backward pass is quadratic in L.
    """
    B, C = grouped(u, delta, A, B, C)
    dt, repeat = _steps(delta, delta_bias, delta_softplus), u.shape[1] // B.shape[1]
    B, C = B.repeat_interleave(repeat, 1), C.repeat_interleave(repeat, 1)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", dt, A))
    added = torch.einsum("bdl,bdnl,bdl->bdln", dt, B, u)
    state, outputs = torch.zeros_like(decay[:, :, 0]), []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + added[:, :, t]
        outputs.append(torch.einsum("bdn,bdn->bd", state, C[:, :, :, t]))
    return _with_skip(torch.stack(outputs, dim=2), u, D)


def _steps(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    delta = delta if bias is None else delta + bias[:, None]
    return F.softplus(delta) if softplus else delta


def _with_skip(y: Tensor, u: Tensor, D: Tensor | None) -> Tensor:
    return y if D is None else y + u * D[:, None]
