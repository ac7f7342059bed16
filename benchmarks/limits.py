"""What the machine can do at most: exps, multiply-adds, bytes of memory a second.

Measured in the same run as the rest, by the same clock, on as many threads.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.case import Case, Work
from kmunet.ops.cpu import native

_EXPS, _REPEAT = 4096, 20_000  # from and to the first-level cache
_SIDE = {"cpu": 1536, "cuda": 8192}  # of a matrix
_FLOATS = {"cpu": 1 << 25, "cuda": 1 << 28}  # 128 MB; 1 GB
_TIMES = {"cpu": 4, "cuda": 8}


def limits_work(case: Case) -> Work:
    """Phases "exp", "fma", "fma_bf16", "bandwidth", with the amount of each."""
    work = Work([])
    for name, (call, amount) in _limits(case).items():
        work.phases.append((name, call))
        work.amounts[name] = amount
    return work


def rates(result: dict[str, Any], clock: str) -> dict[str, float]:
    """Amounts a second of `clock`: exps, flop (two a multiply-add), bytes."""
    amounts, phases = result["amounts"], result["phases"]
    return {name: amounts[name] / phases[name][clock] for name in amounts}


def _limits(case: Case) -> dict[str, tuple[Callable[[], Any], float]]:
    exp = _exp_on_gpu() if case.device == "cuda" else _exp_on_cpu(case.threads)
    side, times = _SIDE[case.device], _TIMES[case.device]
    return {
        "exp": exp,
        "fma": (_products(case, torch.float32), 2.0 * side**3 * times),
        "fma_bf16": (_products(case, torch.bfloat16), 2.0 * side**3 * times),
        "bandwidth": (_sums(case), 12.0 * _FLOATS[case.device] * times),
    }


def _products(case: Case, dtype: torch.dtype) -> Callable[[], None]:
    """Square matrix products, in float32 without TF32."""
    side = _SIDE[case.device]
    a, b = torch.rand(2, side, side, device=case.device).to(dtype)
    out = torch.empty_like(a)

    def call() -> None:
        for _ in range(_TIMES[case.device]):
            torch.mm(a, b, out=out)

    return call


def _sums(case: Case) -> Callable[[], None]:
    """c = a + b on arrays that no cache holds: 12 bytes an element."""
    a, b, c = torch.ones(3, _FLOATS[case.device], device=case.device)

    def call() -> None:
        for _ in range(_TIMES[case.device]):
            torch.add(a, b, out=c)

    return call


def _exp_on_cpu(threads: int) -> tuple[Callable[[], None], float]:
    """The scan's own exp where it is built, else torch's; one loop a thread."""
    kernel = native.kernel()

    def loop() -> None:
        x = torch.linspace(-20, 0, _EXPS)
        if kernel is not None:
            kernel.exp(x, _REPEAT)
            return
        y = torch.empty_like(x)
        for _ in range(_REPEAT):
            torch.exp(x, out=y)

    def call() -> None:
        running = [threading.Thread(target=loop) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return call, float(_EXPS * _REPEAT * threads)


def _exp_on_gpu() -> tuple[Callable[[], None], float]:
    from benchmarks.limits_gpu import EXPS, exp_loop

    out = torch.empty(EXPS.size, device="cuda")
    return lambda: exp_loop(out), EXPS.count
