"""What the ranks of a training do together; with one rank, next to nothing."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def share_gradients(model: nn.Module, world_size: int) -> nn.Module:
    """Wrap `model` so that gradients are means over ranks."""
    if world_size == 1:
        return model
    # Said of depthwise weights (C, 1, k, k), whose two layouts are the same.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(model)


def without_sharing(model: nn.Module) -> AbstractContextManager[None]:
    """For all but the last part of an accumulated step."""
    if isinstance(model, DistributedDataParallel):
        return cast("AbstractContextManager[None]", model.no_sync())
    return nullcontext()


def copy_from_first(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if dist.is_available() and dist.is_initialized():
        for value in model.state_dict().values():
            dist.broadcast(value, src=0)


def any_rank(*flags: bool | Tensor, device: torch.device) -> list[bool]:
    """Which of `flags` is set on any rank, so that all do the same after it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [bool(flag) for flag in flags]
    known = [False if isinstance(flag, Tensor) else flag for flag in flags]
    pinned = device.type == "cuda"
    found = torch.tensor(known, dtype=torch.int32, pin_memory=pinned)
    found = found.to(device, non_blocking=True)
    for place, flag in enumerate(flags):
        if isinstance(flag, Tensor):
            found[place] = flag
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return [bool(value) for value in found.tolist()]


def gather(values: Tensor, world_size: int) -> list[list[float]]:
    """Each rank's `values`, float64 (n,), on every rank."""
    if world_size == 1:
        return [values.tolist()]
    parts = [torch.empty_like(values) for _ in range(world_size)]
    dist.all_gather(parts, values)
    return [part.tolist() for part in parts]
