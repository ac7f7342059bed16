"""The one-dimensional scan as custom operators `kmunet::selective_scan[_backward]`.

torch's compiler, export, autocast and autograd see an operator with known shapes and
strides; which version runs inside is decided when it runs. Kept states are an output,
so that a compiled backward pass has them; without them they are computed again.
"""

from typing import Any

import torch
from torch import Tensor

from kmunet.ops.backend import Kernels, Optional
from kmunet.ops.dispatch import get, name_for
from kmunet.ops.operator import (
    differentiable,
    in_float32,
    once_differentiable,
    operator,
)
from kmunet.ops.shapes import grouped, scan_dtype

Seven = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def kernels_of(backend: str, x: Tensor) -> Kernels:
    """The kernels of a version, "auto" resolved for x; plain versions have none."""
    name = name_for(backend, x.device.type, x.dtype == torch.float64)
    found = get(name).kernels
    if found is None:
        raise RuntimeError(f"scan backend '{name}' runs outside the operator")
    return found()


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """x with the dtype, strides and a storage of its own as `empty_like(like)`."""
    dense = like.is_contiguous()
    whole = x.untyped_storage().nbytes() == x.numel() * x.element_size()
    if whole and x.dtype == like.dtype:
        if dense and x.is_contiguous():
            return x
        if x.stride() == torch.empty_like(like, device="meta").stride():
            return x
    return torch.empty_like(like, device=x.device).copy_(x)


@operator("selective_scan")
def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """y as u, and the states kept for the backward pass (none without `keep`)."""
    tensors = (u, delta, A, *grouped(u, delta, A, B, C, D, delta_bias), D, delta_bias)
    y, kept = kernels_of(backend, u).forward(tensors, delta_softplus, keep)
    return laid_out(y, u), or_nothing(kept if keep else None, u)


@torch.library.register_fake("kmunet::selective_scan")  # type: ignore[untyped-decorator]
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    if not keep:
        return torch.empty_like(u), nothing(u)
    # Kernels count in whole numbers: training is compiled for given sizes.
    sizes = (u.shape[0], u.shape[2], u.shape[1], A.shape[1], B.shape[1])
    size = kernels_of(backend, u).kept_size(*map(int, sizes))
    return torch.empty_like(u), u.new_empty(size, dtype=scan_dtype(u))


def nothing(like: Tensor) -> Tensor:
    """The empty tensor that stands for no kept states."""
    return like.new_empty(0, dtype=scan_dtype(like))


def or_nothing(kept: Tensor | None, like: Tensor) -> Tensor:
    """What was kept; an operator returns a tensor in any case."""
    return nothing(like) if kept is None else kept


@operator("selective_scan_backward")
def scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    kept: Tensor,
    delta_softplus: bool,
    backend: str,
) -> Seven:
    """A gradient of the dtype and the strides of each tensor; empty for None."""
    tensors, kernels = (u, delta, A, B, C, D, delta_bias), kernels_of(backend, u)
    if kept.numel() == 0:
        again = kernels.forward(tensors, delta_softplus, True)[1]
        kept = or_nothing(again, u)
    found = kernels.backward(grad, tensors, kept, delta_softplus)
    like = _gradients_like(tensors)
    return tuple(
        u.new_empty(0) if g is None or t is None else laid_out(g, t)
        for g, t in zip(found, like, strict=True)
    )  # type: ignore[return-value]


def _gradients_like(tensors: Optional) -> Optional:
    """d_delta has the strides of u: what follows it then sums in one order."""
    u, delta, *others = tensors
    assert u is not None
    assert delta is not None
    return u, torch.empty_like(u, dtype=delta.dtype, device="meta"), *others


@torch.library.register_fake("kmunet::selective_scan_backward")  # type: ignore[untyped-decorator]
def _(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    kept: Tensor,
    delta_softplus: bool,
    backend: str,
) -> Seven:
    like = _gradients_like((u, delta, A, B, C, D, delta_bias))
    return tuple(
        u.new_empty(0) if t is None else torch.empty_like(t, device=u.device)
        for t in like
    )  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, softplus, backend, _ = inputs
    ctx.set_materialize_grads(False)  # no zeros in place of the kept states' gradient
    ctx.save_for_backward(*tensors, output[1])
    ctx.softplus, ctx.backend = softplus, backend


def _differentiate(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    *tensors, kept = ctx.saved_tensors
    if grad is None:
        return (None,) * 10
    found = scan_backward(grad, *tensors, kept, ctx.softplus, ctx.backend)
    gradients = (
        g if t is not None else None for g, t in zip(found, tensors, strict=True)
    )
    return (*gradients, None, None, None)


differentiable("selective_scan", _differentiate, _save)
once_differentiable("selective_scan_backward")


in_float32("selective_scan", "selective_scan_backward")


def keeps(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow. An exported model computes states again."""
    wanted = any(t is not None and t.requires_grad for t in tensors)
    return wanted and torch.is_grad_enabled() and not torch.compiler.is_exporting()
