"""The seven 2-D scans on a GPU: right, the same on every run, and how fast.

`python3 -m benchmarks.gpu_scan --out gpu-scan.json` needs torch and triton alone. It
holds Triton's values and gradients against float64, asks for the same bits from ten
runs and from every configuration of the tuning, and times all versions by CUDA events,
beside the GPU's own limits measured in the same run. `--sweep` times other ways to cut
the scans up; `--tiny` runs all of it in Triton's interpreter.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import run_ahead

STATES = 16
GRADIENTS = ("y", "x", "x_proj", "dt_proj", "dt_bias", "A_logs", "Ds")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Shape:
    where: str
    channels: int
    size: int
    rank: int
    batch: int = 8
    count: int = STATES

    def states(self) -> int:
        return self.batch * 4 * self.channels * self.size**2 * self.count

    def bytes(self, keep: bool, element: int = 4) -> float:
        """Read x and the projections, write y; with `keep` the states of each tile."""
        from kmunet.ops.triton.plan import TILE

        pixels = self.batch * self.size**2
        rows = pixels * 4 * (self.rank + 2 * self.count) * 4
        kept = self.states() * 4 / TILE if keep else 0
        return pixels * self.channels * (element + 4) + rows + kept

    def inputs(self, device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """As a model starts: A from -1 to -16, steps of 0.001 to 0.1."""
        seed, d = torch.Generator().manual_seed(0), self.channels

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=seed)

        x = normal(self.batch, d, self.size, self.size)
        A = torch.arange(1, self.count + 1).log().expand(4 * d, -1)
        given = [
            x.contiguous(memory_format=torch.channels_last).to(dtype),
            normal(4, self.rank + 2 * self.count, d) * d**-0.5,
            normal(4, d, self.rank) * self.rank**-0.5,
            normal(4, d) - 4,
            A.contiguous(),
            torch.ones(4 * d),
        ]
        return [t.to(device) for t in given]


SHAPES = [
    Shape("encoder 1", 32, 128, 1),
    Shape("decoder 4", 32, 128, 1),
    Shape("encoder 2", 64, 64, 2),
    Shape("decoder 3", 64, 64, 2),
    Shape("encoder 3", 256, 32, 8),
    Shape("decoder 2", 256, 32, 8),
    Shape("decoder 1", 320, 16, 10),
]
TINY = [Shape("tiny", 3, 3, 1, 1, 2), Shape("tiny, wide", 34, 2, 2, 1, 1)]


class Bench:
    """What is timed, on one device."""

    def __init__(self, device: str, repeats: int, shapes: list[Shape]) -> None:
        self.device, self.repeats, self.shapes = device, repeats, shapes

    def seconds(self, call: Callable[[], Any]) -> float:
        """The median of some runs, by CUDA events where there are any."""
        call()
        if self.device == "cpu":
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        for _ in range(3):
            call()
        taken = []
        for _ in range(self.repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            run_ahead()
            start.record()
            call()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3)
        return sorted(taken)[len(taken) // 2]

    def graphed(self, call: Callable[[], Any]) -> float:
        """The same without the time that launches take on the host."""
        if self.device == "cpu":
            return self.seconds(call)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            call()
        return self.seconds(graph.replay)

    def limits(self) -> dict[str, float]:
        """exps and bytes a second."""
        import triton

        from benchmarks.gpu_exp import exp_loop

        programs, loops = (16384, 4096) if self.device == "cuda" else (1, 2)
        y = torch.zeros(programs * 128, device=self.device)
        taken = self.seconds(lambda: exp_loop[(programs,)](y, loops, num_warps=4))
        size = 2**28 if self.device == "cuda" else 2**12
        a = torch.zeros(size, device=self.device)
        b = torch.empty_like(a)
        copied = self.seconds(lambda: b.copy_(a))
        return {
            "exp": programs * 128 * loops * 8 / taken,
            "bytes": 2 * 4 * size / copied,
            "triton": float(".".join(triton.__version__.split(".")[:2])),
        }

    def check(self, shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
        """Largest errors as shares of the largest numbers, and whether bits repeat."""
        from kmunet.ops import use_backend

        tensors = replace(shape, batch=min(shape.batch, 2)).inputs(self.device, dtype)
        with use_backend("triton"):
            runs = [
                self._results(tensors) for _ in range(10 if self.repeats > 1 else 2)
            ]
            runs += self._configured(tensors)
        with use_backend("chunked"):
            truth = self._results([t.double() for t in tensors])
        errors = {
            name: ((a.double() - b).abs().max() / b.abs().max()).item()
            for name, a, b in zip(GRADIENTS, runs[0], truth, strict=True)
        }
        same = all(all(map(torch.equal, runs[0], again)) for again in runs[1:])
        good = same and max(errors.values()) < TOLERANCE[dtype]
        return {"errors": errors, "same_bits": same, "good": good}

    def _configured(self, tensors: list[Tensor]) -> Iterator[list[Tensor]]:
        """The results with every configuration that a kernel's tuning may choose."""
        from kmunet.ops.triton.chunks import chunk_ends
        from kmunet.ops.triton.gradients import gradients
        from kmunet.ops.triton.outputs import outputs
        from kmunet.ops.triton.tuning import BLOCKS, REGISTERS

        tuned = (chunk_ends, BLOCKS), (outputs, BLOCKS), (gradients, REGISTERS)
        for kernel, configs in tuned:
            before = kernel.configs
            for config in configs:
                kernel.configs = [config]
                yield self._results(tensors)
            kernel.configs = before

    def _results(self, tensors: list[Tensor]) -> list[Tensor]:
        from kmunet.ops import selective_scan_2d

        leaves = [t.clone().requires_grad_() for t in tensors]
        y = selective_scan_2d(*leaves)
        grad = torch.arange(y.numel(), device=y.device).cos().view_as(y).to(y.dtype)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    def operator(
        self, shape: Shape, backend: str, dtype: torch.dtype
    ) -> dict[str, float]:
        """`selective_scan_2d` as a model calls it, with the projections of x."""
        from kmunet.ops import selective_scan_2d, use_backend

        leaves = [t.requires_grad_() for t in shape.inputs(self.device, dtype)]
        with use_backend(backend):
            forward = self.seconds(lambda: selective_scan_2d(*leaves))
            y = selective_scan_2d(*leaves)
            grad = torch.ones_like(y)
            backward = self.seconds(
                lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True)
            )
        return {"forward": forward, "backward": backward}

    def kernels(self, shape: Shape, dtype: torch.dtype) -> dict[str, float]:
        """Triton's launches alone: what the operator does but for the projections."""
        forward, backward = self._calls(shape, dtype)
        return {"forward": self.graphed(forward), "backward": self.graphed(backward)}

    def _calls(
        self, shape: Shape, dtype: torch.dtype, cut: Any = None
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        from kmunet.ops.triton.scan import TritonScan2d, _problem_2d

        x, *weights = shape.inputs(self.device, dtype)
        pixels = x.permute(0, 2, 3, 1).contiguous()
        _, proj, _ = TritonScan2d().forward((pixels, *weights), False)
        problem = _problem_2d(pixels, proj, *weights[1:])
        problem = problem if cut is None else replace(problem, plan=cut)
        y, kept = problem.forward(True)
        dy = torch.ones_like(y)
        return lambda: problem.forward(True), lambda: problem.backward(dy, kept)

    def sweep(self, shape: Shape, dtype: torch.dtype) -> list[dict[str, float]]:
        """Other chunks, tiles and blocks, the best sum first."""
        from kmunet.ops.triton.plan import Plan

        rows = []
        for tile in (4, 8, 16):
            for block in {32, 64 if shape.channels > 32 else 32}:
                for chunk in (32, 64, 128, 256):
                    if chunk > 2 * shape.size**2:
                        continue
                    cut = Plan(chunk, block, tile)
                    forward, backward = self._calls(shape, dtype, cut)
                    found = self.seconds(forward), self.seconds(backward)
                    rows.append(
                        {"chunk": chunk, "block": block, "tile": tile}
                        | dict(zip(("forward", "backward"), found, strict=True))
                    )
        return sorted(rows, key=lambda row: row["forward"] + row["backward"])


def run(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    from kmunet.ops.mamba import usable

    names = ["triton", "chunked", *(["mamba-ssm"] if usable() else [])]
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if bench.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "limits": bench.limits(),
        "scans": [],
    }
    done: dict[str, dict[str, Any]] = {}
    for shape in bench.shapes:
        key = str(replace(shape, where=""))
        if key not in done:  # encoder and decoder scans of one size are one measurement
            done[key] = measured(bench, shape, names, arguments.sweep)
        report["scans"].append({"where": shape.where, **done[key]})
        print(line(report["scans"][-1]), flush=True)
        save(report, arguments.out)
    report["total"] = totals(bench, report)
    return report


def save(report: dict[str, Any], out: Path) -> None:
    """After each shape: a run that is stopped loses only what it was about."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")


def measured(
    bench: Bench, shape: Shape, names: list[str], sweep: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"states": shape.states()}
    for dtype in (torch.float32, torch.bfloat16):
        label = str(dtype).removeprefix("torch.")
        found[label] = {
            "check": bench.check(shape, dtype),
            "kernels": bench.kernels(shape, dtype),
            **{name: bench.operator(shape, name, dtype) for name in names},
        }
    if sweep:
        found["sweep"] = bench.sweep(shape, torch.float32)
    return found


def line(scan: dict[str, Any]) -> str:
    parts = [f"{scan['where']:10}"]
    for label in ("float32", "bfloat16"):
        found = scan[label]
        check = found["check"]
        worst = max(check["errors"].values())
        parts.append(f"{label}: {'ok' if check['good'] else 'WRONG'} {worst:.0e}")
        for name, times in found.items():
            if name != "check":
                pair = f"{times['forward'] * 1e3:.3f}+{times['backward'] * 1e3:.3f} ms"
                parts.append(f"{name} {pair}")
    for row in scan.get("sweep", [])[:3]:
        parts.append(f"\n    {row}")
    return "  ".join(parts)


def totals(bench: Bench, report: dict[str, Any]) -> dict[str, Any]:
    """Of all scans: seconds, and shares of the bounds by exps and by bytes."""
    limits, scans = report["limits"], report["scans"]
    states = sum(scan["states"] for scan in scans)
    found: dict[str, Any] = {
        "exp_bound": states / limits["exp"],
        "bytes_bound": sum(s.bytes(keep=True) for s in bench.shapes) / limits["bytes"],
    }
    for label in ("float32", "bfloat16"):
        for name in [key for key in scans[0][label] if key != "check"]:
            for way in ("forward", "backward"):
                taken = sum(scan[label][name][way] for scan in scans)
                found[f"{label} {name} {way}"] = taken
                share = f"{label} {name} {way}, share of the exp bound"
                found[share] = found["exp_bound"] / taken
    return found


def all_right(report: dict[str, Any]) -> bool:
    labels = ("float32", "bfloat16")
    return all(
        scan[name]["check"]["good"] for scan in report["scans"] for name in labels
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_scan")
    parser.add_argument("--out", type=Path, default=Path("gpu-scan.json"))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--sweep", action="store_true", help="other chunks and tiles")
    parser.add_argument("--tiny", action="store_true", help="interpreted, on a CPU")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.tiny:
        os.environ["TRITON_INTERPRET"] = "1"
        bench = Bench("cpu", 1, TINY)
    elif torch.cuda.is_available():
        bench = Bench("cuda", options.repeats, SHAPES)
    else:
        print("no CUDA device: use --tiny to try this in the interpreter")
        return 1
    report = run(bench, options)
    save(report, options.out)
    for name, value in report["total"].items():
        print(f"{name:50} {value:.4g}")
    good = all_right(report)
    print("all right" if good else "WRONG: see the lines above")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
