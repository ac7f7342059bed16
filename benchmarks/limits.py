"""What the machine can do at most: exps, multiply-adds, bytes of memory a second.

Measured in the same run as the rest, by the same clock, on as many threads.
"""

import importlib.util
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
    found = {
        "product": _products(case, torch.float32, _SIDE[case.device]),
        "product_bf16": _products(case, torch.bfloat16, _side_bf16(case)),
        "bandwidth": _sums(case),
    }
    if case.device == "cpu":
        found["exp"] = limits_cpu.exps(case.threads)
        found["fma"] = limits_cpu.multiply_adds(case.threads)
    elif importlib.util.find_spec("triton"):
        found["exp"] = _exps_on_gpu()
    return found


def _side_bf16(case: Case) -> int:
    """A CPU without such products takes a hundred times as long for one."""
    slow = case.device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return 256 if slow else _SIDE[case.device]


def _products(case: Case, dtype: torch.dtype, side: int) -> limits_cpu.Limit:
    """Square matrix products, in float32 without TF32."""
    times = _TIMES[case.device]
    a, b = torch.rand(2, side, side, device=case.device).to(dtype)
    out = torch.empty_like(a)

    def call() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return call, 2.0 * side**3 * times


def _sums(case: Case) -> limits_cpu.Limit:
    """c = a + b on arrays that no cache holds: 12 bytes an element."""
    times = _TIMES[case.device]
    a, b, c = torch.ones(3, _FLOATS[case.device], device=case.device)

    def call() -> None:
        for _ in range(times):
            torch.add(a, b, out=c)

    return call, 12.0 * _FLOATS[case.device] * times


def _exps_on_gpu() -> limits_cpu.Limit:
    from benchmarks.limits_gpu import EXPS, exp_loop

    out = torch.empty(EXPS.size, device="cuda")
    return lambda: exp_loop(out), EXPS.count
