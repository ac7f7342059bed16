"""What the machine can do at most: exps, multiply-adds, bytes of memory a second.

Measured in the same run as the rest, by the same clock, on as many threads.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import limits_cpu
from benchmarks.case import Case, Work

_SIDE = {"cpu": 1536, "cuda": 8192}  # of a matrix
_FLOATS = {"cpu": 1 << 25, "cuda": 1 << 28}  # 128 MB; 1 GB
_TIMES = {"cpu": 4, "cuda": 8}


def limits_work(case: Case) -> Work:
    """Phases by the names of the limits, with the amount of each."""
    work = Work([])
    for name, (call, amount) in _limits(case).items():
        work.phases.append((name, call))
        work.amounts[name] = amount
    return work


def rates(result: dict[str, Any], clock: str) -> dict[str, float]:
    """Amounts a second of `clock`: exps, flop (two a multiply-add), bytes."""
    amounts, phases = result["amounts"], result["phases"]
    return {name: amounts[name] / phases[name][clock] for name in amounts}


def _limits(case: Case) -> dict[str, limits_cpu.Limit]:
    side, times = _SIDE[case.device], _TIMES[case.device]
    product = 2.0 * side**3 * times
    found = {
        "product": (_products(case, torch.float32), product),
        "product_bf16": (_products(case, torch.bfloat16), product),
        "bandwidth": (_sums(case), 12.0 * _FLOATS[case.device] * times),
    }
    if case.device == "cpu":
        found["exp"] = limits_cpu.exps(case.threads)
        found["fma"] = limits_cpu.multiply_adds(case.threads)
    elif importlib.util.find_spec("triton"):
        found["exp"] = _exps_on_gpu()
    return found


def _products(case: Case, dtype: torch.dtype) -> Callable[[], object]:
    """Square matrix products, in float32 without TF32."""
    side = _SIDE[case.device]
    a, b = torch.rand(2, side, side, device=case.device).to(dtype)
    out = torch.empty_like(a)

    def call() -> None:
        for _ in range(_TIMES[case.device]):
            torch.mm(a, b, out=out)

    return call


def _sums(case: Case) -> Callable[[], object]:
    """c = a + b on arrays that no cache holds: 12 bytes an element."""
    a, b, c = torch.ones(3, _FLOATS[case.device], device=case.device)

    def call() -> None:
        for _ in range(_TIMES[case.device]):
            torch.add(a, b, out=c)

    return call


def _exps_on_gpu() -> limits_cpu.Limit:
    from benchmarks.limits_gpu import EXPS, exp_loop

    out = torch.empty(EXPS.size, device="cuda")
    return lambda: exp_loop(out), EXPS.count
