"""One case in a process of its own: build, then a call whenever it is asked for one.

So no case pays for another's memory, what fails or takes too long fails alone, and
calls of several cases can take turns.
"""

import ctypes
import gc
import os
import resource
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.case import LIMITS, Case, Work

_MOST = 0.6  # share of the machine's memory that one case may take


def serve(connection: Connection, case: Case) -> None:
    """Answer "call" with seconds by phase, "memory" with bytes; end on anything else.

    The first message is what was built, or {"failed": why}.
    """
    # The published networks print shapes.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        _serve(connection, case)


def _serve(connection: Connection, case: Case) -> None:
    import torch

    from kmunet.training.utilisation import forget_peak

    try:
        work = _build(case)
        start = _start_memory(case)
        _send_about(connection, work)
        warm = False
        while (asked := connection.recv()) in ("call", "memory"):
            if asked == "call":
                connection.send(_call(case, work))
                if not warm:
                    # Triton's tuning had a buffer of 256 MB in the first call.
                    forget_peak(torch.device(case.device))
                    warm = True
            else:
                connection.send({"start": start, "peak": _peak(case)})
    except EOFError:
        return
    except Exception as error:
        connection.send({"failed": _reason(error)})


def _build(case: Case) -> Work:
    import torch

    from benchmarks import limits, modules, networks, scan
    from kmunet.device import full_float32
    from kmunet.training.determinism import keep_freed_memory, make_deterministic

    keep_freed_memory()
    if case.device == "cpu":
        _bound_memory()
    torch.set_num_threads(case.threads)
    # float32 is float32 for everyone, as `fit` has it and the measured limit.
    full_float32()
    if case.deterministic:
        make_deterministic(0, case.threads)
    build: dict[str, Callable[[Case], Work]] = {
        "scan": scan.scan_work,
        "kan": modules.kan_work,
        "ss2d": modules.ss2d_work,
        "step": networks.step_work,
        "inference": networks.inference_work,
        LIMITS: limits.limits_work,
    }
    return build[case.part](case)


def _bound_memory() -> None:
    """Too large a case ends with an error instead of ending others by swapping."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = int(_MOST * total)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def _send_about(connection: Connection, work: Work) -> None:
    needs = {"flop": work.flop, "exps": work.exps, "bytes": work.bytes}
    connection.send({**needs, "injected": work.injected, "amounts": work.amounts})


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


def _call(case: Case, work: Work) -> dict[str, dict[str, float]]:
    return _on_gpu(work, case.ahead) if case.device == "cuda" else _on_cpu(work)


def _on_cpu(work: Work) -> dict[str, dict[str, float]]:
    """CPU seconds of all threads ("cpu") and wall seconds, by phase."""
    found: dict[str, dict[str, float]] = {}
    for name, call in work.phases:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        times = found.setdefault(name, {"wall": 0.0, "cpu": 0.0})
        times["wall"] += time.perf_counter() - wall
        times["cpu"] += time.process_time() - cpu
    return found


def _on_gpu(work: Work, ahead: bool) -> dict[str, dict[str, float]]:
    """Seconds between events on the GPU ("gpu"), by phase.

    `ahead`: the host launches all before the GPU begins.
    """
    import torch

    from benchmarks.measure import run_ahead

    def event() -> Any:
        mark: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record()
        return mark

    torch.cuda.synchronize()
    if ahead:
        run_ahead()
    marks = [event()]
    for _, call in work.phases:
        call()
        marks.append(event())
    torch.cuda.synchronize()
    found: dict[str, dict[str, float]] = {}
    for i, (name, _) in enumerate(work.phases):
        times = found.setdefault(name, {"gpu": 0.0})
        times["gpu"] += marks[i].elapsed_time(marks[i + 1]) / 1000
    return found


def _start_memory(case: Case) -> int:
    """Bytes in use before the first call; the high-water mark starts from there."""
    gc.collect()
    _return_freed_memory()
    if case.device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return _peak(case)


def _return_freed_memory() -> None:
    """Building left memory with the C library, which the first call would reuse."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak(case: Case) -> int:
    """The most bytes in use so far: of the GPU's memory, or resident."""
    if case.device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
