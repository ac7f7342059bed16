"""The parts of the network alone: its KAN layers, and its SS2D modules."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import published
from benchmarks.case import OURS, Case, Phase, Work
from benchmarks.networks import count_flop
from benchmarks.scan import states
from benchmarks.scan_peers import choose_scan
from kmunet.nn import SS2D
from kmunet.nn.kan import KANLinear
from kmunet.ops import use_backend

# Channels, the share of an image's side, how many: widths 128, 160, 256.
KAN_LAYERS = ((160, 16, 3), (256, 32, 3))
SS2D_LAYERS = ((16, 2, 2), (32, 4, 2), (128, 8, 2), (160, 16, 1))
RECURSION = "kmunet, recursion"


def kan_work(case: Case) -> Work:
    """The six KANLinear of a network, on its numbers of tokens."""
    make, injected = _kan(case)
    work = Work([], injected=injected)
    for channels, divisor, count in KAN_LAYERS:
        tokens = case.batch * (case.size // divisor) ** 2
        x = torch.randn(tokens, channels, generator=torch.Generator().manual_seed(0))
        for _ in range(count):
            _add(work, make(channels).to(case.device), x.to(case.device))
    # What the equation needs, whoever solves it: one product over SiLU and 8 bases.
    work.flop = sum(
        3 * 2 * 9 * channels**2 * count * case.batch * (case.size // divisor) ** 2
        for channels, divisor, count in KAN_LAYERS
    )
    return work


def ss2d_work(case: Case) -> Work:
    """The seven SS2D modules of a network."""
    make, injected = _ss2d(case)
    work = Work([], injected=injected)
    for channels, divisor, count in SS2D_LAYERS:
        side = case.size // divisor
        shape = (case.batch, channels, side, side)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        if case.peer.startswith("published"):
            x = x.permute(0, 2, 3, 1).contiguous()  # theirs takes channels last
        for _ in range(count):
            _add(work, make(channels).to(case.device), x.to(case.device))
        small = torch.zeros(1, channels, 8, 8, device=case.device)
        with use_backend("auto"):  # what the fused one needs, for all
            flop = count_flop(partial(SS2D(channels).to(case.device), small))
        work.flop += 3 * count * case.batch * side**2 / 64 * flop
    work.exps = 2 * states(case.batch, case.size)
    return work


def _kan(case: Case) -> tuple[Callable[[int], nn.Module], list[str]]:
    if case.peer == OURS:
        return lambda n: KANLinear(n, n), []
    if case.peer == RECURSION:
        return _not_uniform, []
    module, injected = published.code(case.peer, case.published)
    return lambda n: module.KANLinear(n, n), injected


def _not_uniform(features: int) -> nn.Module:
    """A layer whose grid has no closed form: it computes by de Boor's recursion."""
    layer = KANLinear(features, features)
    layer.grid[:, -1] += 0.1
    return layer


def _ss2d(case: Case) -> tuple[Callable[[int], nn.Module], list[str]]:
    if case.peer.startswith("published"):
        module, injected = published.code(case.peer, case.published)
        return lambda n: module.SS2D(d_model=n), injected
    choose_scan(case.peer)
    return SS2D, []


def _add(work: Work, module: nn.Module, x: Tensor) -> None:
    leaf, held = x.requires_grad_(), list[Tensor]()
    leaves = [leaf, *module.parameters()]

    def forward() -> None:
        held.append(module(leaf))

    def backward() -> None:
        y = held.pop()
        torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)

    phases: list[Phase] = [("forward", forward), ("backward", backward)]
    work.phases += phases
    # Input, output and parameters, and the gradient of each.
    parameters = sum(p.numel() for p in module.parameters())
    work.bytes += 2 * 4 * (2 * x.numel() + parameters)
