"""`python -m benchmarks.orchestration`: what Prefect, DVC and Ray cost beside the work.

An all-cached flow run on a whole stack, the start of Ray up to the first training step,
and the speed of two workers with a thread each beside one with two threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import orchestration_flow as flows
from benchmarks.measure import machine, rounded
from benchmarks.small_checkout import SMALL, make

OUT = Path(__file__).parent / "results" / "orchestration.json"
# The network and the size of the paper: a step is work and not messages.
WORK = {
    **SMALL,
    "synthesize.images": 240,
    "synthesize.size": 256,
    "sources.synthetic.sizes": [256],
    "model.widths": [128, 160, 256],
    "train.max_steps": None,
    "train.batch_size": 8,
}
TEAMS = {"two workers": (2, 1), "two threads": (1, 2)}  # workers, threads


def cached_flow(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of runs that find everything done, on PostgreSQL, S3 and Ray nodes."""
    root = make(folder / "flow")
    with flows.stack(root) as environment:
        first = flows.run(root, environment)
        cached = [flows.run(root, environment) for _ in range(repeats)]
    return {"first": first, "cached": cached, **_least(cached, "seconds")}


def start(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds from the start of the stage's process to its first training step."""
    root = _prepared(folder / "start", SMALL)
    starts = [_train(root, 1, 1)[0] for _ in range(repeats + 1)][1:]  # kernel: built
    return {"starts": starts, **_least(starts, "first_step")}


def workers(folder: Path, repeats: int) -> dict[str, Any]:
    """Images a second, in turns; the ratio of each turn is what counts."""
    root = _prepared(folder / "workers", WORK)
    turns = []
    for _ in range(repeats):
        speeds = {name: _train(root, *team)[1] for name, team in TEAMS.items()}
        turns.append({**speeds, "ratio": speeds["two workers"] / speeds["two threads"]})
    return {"turns": turns, "ratio": median(turn["ratio"] for turn in turns)}


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
    "cached flow": (cached_flow, 4),
    "start": (start, 6),
    "workers": (workers, 2),
}


def _least(found: Sequence[dict[str, float]], name: str) -> dict[str, float]:
    values = [item[name] for item in found]
    return {"least": min(values), "median": median(values)}


def _prepared(root: Path, values: dict[str, Any]) -> Path:
    make(root, values)
    for stage in ("synthesize", "prepare@synthetic", "split@synthetic"):
        command = [sys.executable, "-m", "dvc", "repro", "-q", "-s", stage]
        subprocess.run(command, cwd=root, env=_environment(root), check=True)
    return root


def _train(root: Path, workers: int, threads: int) -> tuple[dict[str, float], float]:
    command = [sys.executable, "-m", "benchmarks.orchestration_train"]
    done = subprocess.run(
        [*command, str(workers), str(threads)], cwd=root, env=_environment(root),
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["start"], told["images_per_second"]


def _environment(root: Path) -> dict[str, str]:
    unset = ("RAY_ADDRESS", "KMUNET_PROFILE", "KMUNET_STORAGE", "MLFLOW_TRACKING_URI")
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    return kept | {"PYTHONPATH": str(root), "OMP_WAIT_POLICY": "passive"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts and write them; others in the file stay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.parts:
        measure, repeats = PARTS[name]
        before = machine()
        with tempfile.TemporaryDirectory(prefix="kmunet-bench-") as folder:
            Path(folder).chmod(0o711)  # PostgreSQL's user passes
            found[name] = rounded({"machine": before, **measure(Path(folder), repeats)})
        text = json.dumps(found, indent=1, sort_keys=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(found[name], indent=1)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
