"""What one image, checkpoint, stage, run and message costs (docs/operations.md).

`python -m benchmarks.scale [PART ...]` writes results/scale.json. Small sizes, with a
smaller one taken off, so that starts do not count; CPU seconds, of servers too.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.scale_child import METRICS, TASKS
from benchmarks.scale_servers import mlflow_server, prefect_server, s3_server

RESULTS = Path(__file__).parent / "results" / "scale.json"
IMAGES = 40, 160
STAGES = 2, 18
FLOWS = 2, 10
BATCHES = 200


def main(parts: list[str]) -> None:
    from benchmarks.measure import machine, rounded

    known = {"prepare": prepare, "checkpoint": checkpoint, "dvc": dvc,
             "prefect": prefect, "mlflow": mlflow}  # fmt: skip
    old = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    result = {"machine": machine(), "parts": dict(old.get("parts", {}))}
    for name in parts or known:
        with tempfile.TemporaryDirectory(prefix="kmunet-scale-") as folder:
            result["parts"][name] = known[name](Path(folder))
        print(name, result["parts"][name], flush=True)
    text = json.dumps(rounded(result), indent=1, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def prepare(home: Path) -> dict[str, float]:
    """Decode, check, search for duplicates, pack: images and masks of 256 pixels."""
    runs = [_child("_prepare", home / str(count), count) for count in IMAGES]
    more = IMAGES[1] - IMAGES[0]
    small, large = runs
    return {
        "cpu_seconds_an_image": (large["cpu"] - small["cpu"]) / more,
        "bytes_an_image": (large["bytes"] - small["bytes"]) / more,
    }


def checkpoint(home: Path) -> dict[str, float]:
    """Save a KM-UNet of the paper's widths with AdamW's moments; send it to S3."""
    from kmunet.models import build_model

    parts = _parts(build_model("km_unet"))
    folder = home / "checkpoint"
    saved = _best(lambda: _save(folder, parts))
    loaded = _best(lambda: _load(folder, parts))
    with s3_server(home / "s3") as (address, options, server):
        sent = _best(lambda: _send(folder, address, options))
        before = cpu_of(server)
        _send(folder, address, options)
        served = cpu_of(server) - before
    return {
        "bytes": float(sum(f.stat().st_size for f in folder.iterdir())),
        "files": float(len(list(folder.iterdir()))),
        **{f"disk_{k}": v for k, v in saved.items()},
        **{f"load_{k}": v for k, v in loaded.items()},
        **{f"s3_{k}": v for k, v in sent.items()},
        "s3_server_cpu_seconds": served,
    }


def dvc(home: Path) -> dict[str, float]:
    """A stage that does nothing: run, and found unchanged."""
    runs = [_stages(home / str(count), count) for count in STAGES]
    more = STAGES[1] - STAGES[0]
    return {
        f"cpu_seconds_{what}": (runs[1][what] - runs[0][what]) / more
        for what in ("run", "cached")
    } | {"cpu_seconds_start": runs[0]["cached"]}


def prefect(home: Path) -> dict[str, float]:
    """A flow run of five tasks that do nothing, on a server with SQLite."""
    with prefect_server(home) as (url, server):
        told = []
        for count in FLOWS:
            before = cpu_of(server)
            own = _child("_flows", home, count, {"PREFECT_API_URL": url})["cpu"]
            time.sleep(3)  # events are written in turns
            told.append((cpu_of(server) - before, own))
    more = FLOWS[1] - FLOWS[0]
    return {
        "server_cpu_seconds_a_run": (told[1][0] - told[0][0]) / more,
        "worker_cpu_seconds_a_run": (told[1][1] - told[0][1]) / more,
        "tasks_a_run": TASKS,
    }


def mlflow(home: Path) -> dict[str, float]:
    """A request with ten metrics, to one worker with SQLite."""
    with mlflow_server(home) as (url, server):
        _child("_metrics", home, 10, {"MLFLOW_TRACKING_URI": url})
        before = cpu_of(server)
        took = _child("_metrics", home, BATCHES, {"MLFLOW_TRACKING_URI": url})
        served = cpu_of(server) - before
    return {
        "server_cpu_seconds_a_request": served / BATCHES,
        "seconds_a_request": took["seconds"] / BATCHES,
        "metrics_a_request": METRICS,
    }


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _best(call: Any, repeats: int = 5) -> dict[str, float]:
    """Least of several: CPU seconds, and wall ones."""
    cpu, wall = [], []
    for _ in range(repeats):
        first, start = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - first)
        wall.append(time.perf_counter() - start)
    return {"cpu_seconds": min(cpu), "seconds": min(wall)}


def _parts(model: Any) -> Any:
    import torch

    from kmunet.training.checkpoint import Parts
    from kmunet.training.precision import Precision

    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return Parts(model, optimizer, None, Precision("float32", torch.device("cpu")))


def _save(folder: Path, parts: Any) -> None:
    import shutil

    from kmunet.training.checkpoint import TrainingState, save_checkpoint, weights_of

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_checkpoint(folder, parts, weights_of(parts.model), TrainingState())


def _load(folder: Path, parts: Any) -> None:
    from kmunet.training.checkpoint import load_checkpoint

    load_checkpoint(folder, parts)


def _send(folder: Path, address: str, options: dict[str, Any]) -> None:
    import s3fs

    system = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    system.put(f"{folder}/", f"{address}/checkpoint/", recursive=True)


def _stages(home: Path, count: int) -> dict[str, float]:
    home.mkdir()
    steps = [f"  s{n}:\n    cmd: echo {n} > out{n}\n    outs: [out{n}]\n"
             for n in range(count)]  # fmt: skip
    (home / "dvc.yaml").write_text("stages:\n" + "".join(steps), encoding="utf-8")
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    call = [sys.executable, "-m", "dvc"]
    quiet: dict[str, Any] = {"cwd": home, "check": True, "env": environment,
                             "stdout": subprocess.DEVNULL}  # fmt: skip
    subprocess.run([*call, "init", "--no-scm", "--quiet"], **quiet)
    with _children() as run:
        subprocess.run([*call, "repro", "--quiet"], **quiet)
    with _children() as cached:
        subprocess.run([*call, "repro", "--quiet"], **quiet)
    return {"run": run[0], "cached": cached[0]}


@contextmanager
def _children() -> Iterator[list[float]]:
    """CPU seconds of the processes that end within."""

    def now() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    found, before = [0.0], now()
    yield found
    found[0] = now() - before


def _child(
    name: str, home: Path, count: int, more: dict[str, str] | None = None
) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale_child", name, str(home), str(count)],
        check=True, stdout=subprocess.PIPE, env={**os.environ, **(more or {})},
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main(sys.argv[1:])
