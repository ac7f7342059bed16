"""Batch norm over the global batch, on a CPU too (torch's own needs a GPU).

Several workers then normalise as one would: the mean and variance are those of all
workers' images (Ioffe & Szegedy, arXiv 1502.03167, algorithm 1, over the whole batch).
With ReLU behind it the kernel does the same (kmunet/nn/norm.py), and exchanges the same
numbers in the same order: one worker may have the kernel and another not.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kmunet.nn.norm import remember
from kmunet.ops.moments import combined, packed


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all ranks together."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        found: tuple[Tensor, Tensor, Tensor, float] = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps, self.gather
        )
        normalised, mean, variance, count = found
        remember(self, mean, variance, count)
        return normalised

    @staticmethod
    def gather(values: Tensor) -> Tensor:
        """(n) -> (R, n), in the order of the ranks."""
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values)
        return torch.stack(parts)


class _Normalise(torch.autograd.Function):
    """weight (x - mean) / sqrt(variance + eps) + bias, statistics of all ranks.

    In float32 at least, whatever x and the result have, as torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        gather: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))
        count = x.numel() // max(1, x.shape[1])
        own = x.sum((0, 2, 3), dtype=torch.float64) / max(1, count)
        # Of the centred values: E[x^2] - mean^2 would cancel.
        centred = x - _per_channel(own.to(x.dtype))
        squares = centred.square().sum((0, 2, 3), dtype=torch.float64)
        moments, total = combined(gather(packed(torch.stack([own, squares]), count)))
        mean, variance = moments[0], moments[1] / total
        centred = x - _per_channel(mean.to(x.dtype))
        scale = torch.rsqrt(variance + eps).to(x.dtype)
        ctx.save_for_backward(centred, scale, weight)
        ctx.total, ctx.gather, ctx.affine = total, gather, bias is not None
        ctx.mark_non_differentiable(mean, variance)
        y = centred * _per_channel(scale if weight is None else scale * weight)
        y = y if bias is None else y + _per_channel(bias)
        return y.to(dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, scale, weight = ctx.saved_tensors
        dtype, grad = grad.dtype, grad.to(centred.dtype)
        parts = (
            grad.sum((0, 2, 3), dtype=torch.float64),
            (grad * centred).sum((0, 2, 3), dtype=torch.float64),
        )
        sums = ctx.gather(torch.cat(parts)).sum(0) / ctx.total
        offset, slope = sums.to(grad.dtype).chunk(2)
        inner = grad - _per_channel(offset)
        inner = inner - centred * _per_channel(slope * scale.square())
        dx = inner * _per_channel(scale if weight is None else scale * weight)
        own = (parts[1] * scale).to(grad.dtype), parts[0].to(grad.dtype)
        return dx.to(dtype), *(own if ctx.affine else (None, None)), None, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of `model`, in place; parameters and names stay."""
    if any(parameter.is_cuda for parameter in model.parameters()):
        convert: Callable[[nn.Module], nn.Module] = (
            nn.SyncBatchNorm.convert_sync_batchnorm
        )
        return convert(model)
    for name, child in list(model.named_children()):
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, _synchronised(child))
        else:
            synchronise_batch_norm(child)
    return model


def _synchronised(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    """With the very parameters and buffers of `norm`."""
    with torch.device("meta"):
        found = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    found._parameters, found._buffers = norm._parameters, norm._buffers
    return found.train(norm.training)
