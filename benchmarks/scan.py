"""The seven 2-D scans of one KM-UNet training step, and the whole step.

`python -m benchmarks.scan` times the CPU kernel and the chunked scan in one run, beside
the machine's own limit: the kernel's exp in a tight loop on as many threads. A state is
one exp forward; the backward pass computes each once more.
"""

import argparse
import json
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import machine, measure, rounded, total
from kmunet.models import build_model
from kmunet.ops import selective_scan_2d, use_backend
from kmunet.ops.cpu import native
from kmunet.training.determinism import keep_freed_memory

STATES, BATCH = 16, 8


@dataclass(frozen=True)
class Scan:
    """One place in the network: D channels, a square image, the rank of dt."""

    where: str
    channels: int
    size: int
    rank: int

    def states(self) -> int:
        return BATCH * 4 * self.channels * self.size**2 * STATES

    def inputs(self) -> list[Tensor]:
        """As a model starts: A from -1 to -16, steps of 0.001 to 0.1."""
        d, torch_seed = self.channels, torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=torch_seed)

        x = normal(BATCH, d, self.size, self.size)
        return [
            x.contiguous(memory_format=torch.channels_last),
            normal(4, self.rank + 2 * STATES, d) * d**-0.5,
            normal(4, d, self.rank) * self.rank**-0.5,
            normal(4, d) - 4,
            torch.arange(1, STATES + 1).log().expand(4 * d, -1).contiguous(),
            torch.ones(4 * d),
        ]


# Widths 128, 160, 256 at 256 x 256; the scan has twice a stage's channels.
SCANS = [
    Scan("encoder 1", 32, 128, 1),
    Scan("decoder 4", 32, 128, 1),
    Scan("encoder 2", 64, 64, 2),
    Scan("decoder 3", 64, 64, 2),
    Scan("encoder 3", 256, 32, 8),
    Scan("decoder 2", 256, 32, 8),
    Scan("decoder 1", 320, 16, 10),
]


def time_kernel(scan: Scan, repeats: int) -> dict[str, dict[str, float]]:
    """The scan alone: dt projection, softplus, states, D skip, the four orders."""
    x, x_proj, weight, bias, A_logs, skip = scan.inputs()
    pixels, d = x.permute(0, 2, 3, 1), scan.channels
    proj = F.linear(pixels, x_proj.flatten(0, 1))
    inputs = {"x": pixels, "proj": proj, "weight": weight, "bias": bias}
    inputs |= {"A": -A_logs.exp(), "skip": skip}
    problem = native.Problem(
        *(BATCH, 4, d, scan.size, scan.size, STATES, scan.rank),
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

    return {
        "forward": measure(forward, repeats),
        "backward": measure(backward, repeats),
    }


def time_operator(scan: Scan, backend: str, repeats: int) -> dict[str, Any]:
    """`selective_scan_2d` as a model calls it, with the projections of x."""
    leaves = [t.requires_grad_() for t in scan.inputs()]
    grad = leaves[0].detach()
    with use_backend(backend):
        forward = measure(lambda: selective_scan_2d(*leaves), repeats)
        y = selective_scan_2d(*leaves)
        backward = measure(
            lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True), repeats
        )
    return {"forward": forward, "backward": backward}


def exp_rate(seconds: float = 1.0) -> float:
    """exps a second of all threads together, from and to the first-level cache."""
    kernel, count, repeat = native.required(), 4096, 2000
    done = [0] * torch.get_num_threads()
    stop = time.perf_counter() + seconds

    def loop(i: int) -> None:
        x = torch.linspace(-20, 0, count)
        while time.perf_counter() < stop:
            kernel.exp(x, repeat)
            done[i] += count * repeat

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(len(done))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - start)


def time_step(backend: str, repeats: int) -> dict[str, float]:
    """Forward and backward of KM-UNet, 8 images of 256 x 256."""
    torch.manual_seed(0)
    model = build_model("km_unet").train()
    images = torch.randn(BATCH, 3, 256, 256)
    masks = (torch.rand(BATCH, 1, 256, 256) > 0.5).float()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(images), masks).backward()

    with use_backend(backend):
        return measure(step, repeats)


def both_ways(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, float]]:
    ways = ("forward", "backward")
    return {way: total([row[key][way] for row in rows]) for way in ways}


def shares(alone: dict[str, dict[str, float]], limit: float) -> dict[str, float]:
    """States a CPU second against exps a CPU second, in each direction."""
    states = sum(scan.states() for scan in SCANS)
    per_thread = limit / torch.get_num_threads()
    return {way: states / part["cpu"] / per_thread for way, part in alone.items()}


def run(repeats: int, with_chunked: bool) -> dict[str, Any]:
    keep_freed_memory()
    names = ["cpu", "chunked"] if with_chunked else ["cpu"]
    result: dict[str, Any] = {"machine": machine(), "kernel": native.required().name}
    rates, rows = [exp_rate()], []
    for scan in SCANS:
        row: dict[str, Any] = {**vars(scan), "states": scan.states()}
        row["kernel"] = time_kernel(scan, repeats)
        for name in names:
            row[name] = time_operator(scan, name, repeats if name == "cpu" else 1)
        rates.append(exp_rate())
        rows.append(row)
        print(scan.where, file=sys.stderr)
    result["scans"] = rows
    result["all_scans"] = {key: both_ways(rows, key) for key in ("kernel", *names)}
    result["exp_per_second"] = max(rates)
    result["share_of_exp"] = shares(result["all_scans"]["kernel"], max(rates))
    result["step"] = {"cpu": time_step("cpu", repeats)}
    result["step_peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if with_chunked:
        result["step"]["chunked"] = time_step("chunked", 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-chunked", action="store_true", help="the kernel alone")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/scan.json")
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result = rounded(run(given.repeats, not given.no_chunked))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    for key in ("all_scans", "share_of_exp", "exp_per_second", "step", "step_peak_gb"):
        print(key, json.dumps(result[key]))


if __name__ == "__main__":
    main()
