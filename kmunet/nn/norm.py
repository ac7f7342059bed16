"""Norms with what follows them in one pass, where the CPU kernel has them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.ops.cpu import kernel_for
from kmunet.ops.cpu.gate import norm_gate as compiled_norm_gate
from kmunet.ops.cpu.native import Kernel
from kmunet.ops.cpu.norm import batch_norm_relu


def norm_relu(x: Tensor, norm: nn.Module) -> Tensor:
    """relu(norm(x)) of an image (B, C, H, W); statistics as `norm` keeps them.

    A batch norm over several ranks has `gather` (ops/cpu/norm.py); all of them come
    here together. One that is a part of what gave x (fused.py) is the identity now.
    """
    if isinstance(norm, nn.Identity):
        return F.relu(x, inplace=True)
    of = _kernel(x, norm) if isinstance(norm, nn.BatchNorm2d) else None
    if of is None or not isinstance(norm, nn.BatchNorm2d):
        return F.relu(norm(_summable(x, norm)), inplace=True)
    pixels = x.permute(0, 2, 3, 1)
    given = (pixels, norm.weight, norm.bias, norm.eps, getattr(norm, "gather", None))
    y, mean, variance, count = batch_norm_relu(of, *given)
    remember(norm, mean, variance, count)
    return y.permute(0, 3, 1, 2)


def _summable(x: Tensor, norm: nn.Module) -> Tensor:
    """In the order in which torch's sums over many pixels keep their digits."""
    if norm.training and x.device.type == "cpu" and x.dtype == torch.float32:
        return x.contiguous()
    return x


def _kernel(x: Tensor, norm: nn.BatchNorm2d) -> Kernel | None:
    """For training in float32 on a CPU, channels last, with a plain batch norm."""
    shared = hasattr(norm, "gather")
    if type(norm) is not nn.BatchNorm2d and not shared:
        return None
    if not norm.affine or not norm.training:
        return None
    single = x.device.type == "cpu" and x.dtype == norm.weight.dtype == torch.float32
    # Else batch norm itself has something to say; other ranks may have more.
    several = shared or x.numel() > x.shape[1]
    last = x.is_contiguous(memory_format=torch.channels_last)
    if not (single and several and last):
        return None
    return kernel_for(x, norm.weight, norm.bias)


@torch.no_grad()
def remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, n: float) -> None:
    """Keep running statistics as torch does, of n values with a biased variance."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:
        share = 1.0 / float(norm.num_batches_tracked)
    unbiased = variance * (n / max(n - 1, 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean), share)
    norm.running_var.lerp_(unbiased.to(norm.running_var), share)


def norm_gate(y: Tensor, z: Tensor, norm: nn.LayerNorm) -> Tensor:
    """norm(y) * silu(z) for y, z (..., C), as Mamba's output is gated.

    In the dtype of y where the norm's has fewer digits.
    """
    own = (norm.weight, norm.bias)
    single = y.device.type == "cpu" and y.dtype == norm.weight.dtype == torch.float32
    of = kernel_for(y, z, *own) if single and y.numel() > 0 else None
    if of is not None:
        return compiled_norm_gate(of, y, z.float(), *own, norm.eps)
    dtype = torch.promote_types(y.dtype, norm.weight.dtype)
    weight, bias = (p.to(dtype) for p in own)
    y = F.layer_norm(y.to(dtype), norm.normalized_shape, weight, bias, norm.eps)
    return y * F.silu(z)
