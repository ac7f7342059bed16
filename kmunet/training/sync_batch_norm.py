"""Batch norm over the global batch, on a CPU too (torch's own needs a GPU).

Several workers then normalise as one would: the mean and variance are those of all
workers' images (Ioffe & Szegedy, arXiv 1502.03167, algorithm 1, over the whole batch).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all ranks together."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        found: tuple[Tensor, ...] = _Normalise.apply(input, self.eps)  # type: ignore[no-untyped-call]
        normalised, *statistics = found
        if self.running_mean is not None and self.running_var is not None:
            self._remember(*statistics)
        if self.weight is None:
            return normalised
        return _per_channel(self.weight) * normalised + _per_channel(self.bias)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        means, variances, seen = (
            self.running_mean, self.running_var, self.num_batches_tracked
        )  # fmt: skip
        assert means is not None
        assert variances is not None
        assert seen is not None
        seen.add_(1)
        share = 1.0 / float(seen) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        means.lerp_(mean.to(means.dtype), share)
        variances.lerp_(unbiased.to(variances.dtype), share)


class _Normalise(torch.autograd.Function):
    """x -> (x - mean) / sqrt(variance + eps), both of the global batch, by channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, ...]:
        channels = x.shape[1]
        count = x.new_full((1,), x.numel() // max(1, channels), dtype=torch.float64)
        first = torch.cat([x.sum((0, 2, 3), dtype=torch.float64), count])
        dist.all_reduce(first)
        count = first[-1]
        mean = first[:-1] / count
        centred = x - _per_channel(mean.to(x.dtype))
        # Of the centred values: E[x^2] - mean^2 would cancel.
        second = centred.square().sum((0, 2, 3), dtype=torch.float64)
        dist.all_reduce(second)
        variance = second / count
        scale = torch.rsqrt(variance + eps)
        normalised = centred * _per_channel(scale.to(x.dtype))
        ctx.save_for_backward(normalised, scale)
        ctx.count = count
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None]:
        normalised, scale = ctx.saved_tensors
        sums = torch.stack(
            [
                grad.sum((0, 2, 3), dtype=torch.float64),
                (grad * normalised).sum((0, 2, 3), dtype=torch.float64),
            ]
        )
        dist.all_reduce(sums)
        offset, slope = (sums / ctx.count).to(grad.dtype)
        inner = grad - _per_channel(offset) - normalised * _per_channel(slope)
        return inner * _per_channel(scale.to(grad.dtype)), None


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
