"""The CPU kernel on torch's own threads against threads started for each call.

`python -m benchmarks.threads` writes results/threads.json. Both in one process, call by
call in turns, with OpenMP waiting as it does by itself (`kmunet bench` has it wait
passively, which hides most of the difference). Wall and CPU seconds, medians.
"""

import json
import time
from ctypes import c_void_p
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.case import Case, Phase
from benchmarks.measure import machine, rounded
from benchmarks.networks import inference_work, step_work
from kmunet.ops.cpu.native import required, torchs_threads
from kmunet.training.determinism import keep_freed_memory

RESULTS = Path(__file__).parent / "results" / "threads.json"
CASES = (
    Case("step", "kmunet", 256, 8),
    Case("step", "kmunet bf16", 256, 8),
    Case("step", "kmunet bf16", 128, 4),
    Case("inference", "kmunet", 128, 1),
    Case("inference", "kmunet", 256, 1),
    Case("inference", "kmunet", 256, 8),
)
WORK = {"step": step_work, "inference": inference_work}
FIRST, TURNS, SECONDS = 3, 8, 12.0  # calls that do not count; at least; for so long


def main() -> None:
    keep_freed_memory()
    result: dict[str, Any] = {"machine": machine(), "cases": []}
    for case in CASES:
        row = {"part": case.part, "peer": case.peer, "batch": case.batch,
               "size": case.size}  # fmt: skip
        result["cases"].append({**row, **compared(WORK[case.part](case).phases)})
        print(json.dumps(rounded(result["cases"][-1])), flush=True)
    text = json.dumps(rounded(result), indent=1, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def compared(phases: list[Phase]) -> dict[str, Any]:
    """Of one call of all phases: seconds with both kinds of threads, and the ratio."""
    library = required().library
    teams = {"torch": torchs_threads(), "own": c_void_p()}
    wall: dict[str, list[float]] = {name: [] for name in teams}
    cpu: dict[str, list[float]] = {name: [] for name in teams}
    begun = time.monotonic()
    while len(wall["own"]) < FIRST + TURNS or time.monotonic() - begun < SECONDS:
        for name, team in teams.items():
            library.kmunet_use_team(team)
            before = time.monotonic(), time.process_time()
            for _, call in phases:
                call()
            wall[name].append(time.monotonic() - before[0])
            cpu[name].append(time.process_time() - before[1])
    found: dict[str, Any] = {"calls": len(wall["own"]) - FIRST}
    for kind, seconds in {"wall": wall, "cpu": cpu}.items():
        middle = {name: median(values[FIRST:]) for name, values in seconds.items()}
        found[kind] = {**middle, "ratio": middle["torch"] / middle["own"]}
    return found


if __name__ == "__main__":
    if not torchs_threads().value:
        raise SystemExit("torch has another OpenMP here: there is nothing to compare")
    main()
