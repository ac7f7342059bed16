"""The seven 2-D scans of one KM-UNet training step, one after another.

A state is one exp forward; the backward pass computes each once more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.case import OURS, Case, Phase, Work
from benchmarks.scan_peers import choose_scan
from kmunet.ops import selective_scan_2d

STATES = 16
KERNEL = "kmunet, kernel alone"  # without the projections of x


@dataclass(frozen=True)
class Scan:
    """One place in the network: D channels, the image's share of a side, dt's rank."""

    where: str
    channels: int
    divisor: int
    rank: int

    def states(self, batch: int, size: int) -> int:
        return batch * 4 * self.channels * (size // self.divisor) ** 2 * STATES

    def inputs(self, batch: int, size: int) -> list[Tensor]:
        """As a model starts: A from -1 to -16, steps of 0.001 to 0.1."""
        d, generator = self.channels, torch.Generator().manual_seed(0)
        side = size // self.divisor

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        return [
            normal(batch, d, side, side).contiguous(memory_format=torch.channels_last),
            normal(4, self.rank + 2 * STATES, d) * d**-0.5,
            normal(4, d, self.rank) * self.rank**-0.5,
            normal(4, d) - 4,
            torch.arange(1, STATES + 1).log().expand(4 * d, -1).contiguous(),
            torch.ones(4 * d),
        ]


# Widths 128, 160, 256; the scan has twice a stage's channels.
SCANS = [
    Scan("encoder 1", 32, 2, 1),
    Scan("decoder 4", 32, 2, 1),
    Scan("encoder 2", 64, 4, 2),
    Scan("decoder 3", 64, 4, 2),
    Scan("encoder 3", 256, 8, 8),
    Scan("decoder 2", 256, 8, 8),
    Scan("decoder 1", 320, 16, 10),
]


def states(batch: int, size: int) -> int:
    """States of all seven scans, which is the number of exps forward."""
    return sum(scan.states(batch, size) for scan in SCANS)


def scan_work(case: Case) -> Work:
    """Forward and backward of each scan; a scan's graph goes before the next comes."""
    phases: list[Phase] = []
    least = 0
    if case.peer != KERNEL:
        choose_scan(case.peer)
    for scan in SCANS:
        inputs = scan.inputs(case.batch, case.size)
        least += 4 * sum(t.numel() * t.element_size() for t in inputs)
        if case.peer == KERNEL:
            phases += kernel_phases(scan, case, inputs)
        else:
            phases += operator_phases([t.to(case.device) for t in inputs])
    return Work(phases, exps=2 * states(case.batch, case.size), bytes=least)


def operator_phases(inputs: list[Tensor]) -> list[Phase]:
    """`selective_scan_2d` as a model calls it, with the projections of x."""
    leaves = [t.requires_grad_() for t in inputs]
    grad = leaves[0].detach()
    held: list[Tensor] = []

    def forward() -> None:
        held.append(selective_scan_2d(*leaves))

    def backward() -> None:
        torch.autograd.grad(held.pop(), leaves, grad)

    return [("forward", forward), ("backward", backward)]


def kernel_phases(scan: Scan, case: Case, given: list[Tensor]) -> list[Phase]:
    """The CPU kernel alone: projections, softplus, states, D skip, four orders."""
    from kmunet.ops.cpu import native

    x, x_proj, weight, bias, A_logs, skip = given
    pixels, side = x.permute(0, 2, 3, 1), case.size // scan.divisor
    inputs = {"x": pixels, "projection": x_proj, "weight": weight, "bias": bias}
    inputs |= {"A": -A_logs.exp(), "skip": skip}
    problem = native.Problem(
        *(case.batch, 4, scan.channels, side, side, STATES, scan.rank),
        shared=True,
        softplus=True,
    )
    kernel, y = native.required(), torch.empty_like(pixels)
    kept = kernel.kept(problem)
    found = {f"d{name}": torch.empty_like(value) for name, value in inputs.items()}

    def forward() -> None:
        kernel.forward(problem, **inputs, y=y, kept=kept)

    def backward() -> None:
        kernel.backward(problem, **inputs, kept=kept, dy=pixels, **found)

    return [("forward", forward), ("backward", backward)]


def scan_peers(device: str) -> list[str]:
    """Who can scan on this device, ours first."""
    from benchmarks.scan_peers import others
    from kmunet.ops.cpu import usable

    alone = [KERNEL] if device == "cpu" and usable() else []
    return [OURS, *alone, *others(device)]
