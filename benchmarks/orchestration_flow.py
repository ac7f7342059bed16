"""A stack for a benchmark or test, and flow runs on it, timed by Prefect's records."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.cluster import clients, control
from infra.local import processes
from infra.local.http import post

NETWORK = "kmbench"


@contextmanager
def stack(root: Path) -> Iterator[dict[str, str]]:
    """The environment of a client while a stack of the checkout `root` runs."""
    call(root, os.environ | {"PYTHONPATH": str(root)}, "infra.cluster", "up", *_own())
    try:
        found = control.existing(root)
        assert found is not None
        known = clients.worker_environment(found.place, found.settings, found.secrets)
        yield os.environ | known
    finally:
        call(root, os.environ | {"PYTHONPATH": str(root)}, "infra.cluster", "down")


def run(root: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run `kmunet/train` to its end: seconds from the request, and CPU seconds."""
    before = _spent(root)
    text = call(
        root, environment, "prefect", "deployment", "run", "kmunet/train", "--watch",
        "--watch-interval", "1",
    )  # fmt: skip
    found = control.existing(root)
    assert found is not None
    number = text.partition("UUID: ")[2].split()[0]
    asked = {"flow_runs": {"id": {"any_": [number]}}}
    headers = clients.prefect_headers(found.secrets)
    (told,) = post(f"{found.api}/flow_runs/filter", asked, headers)
    tasks = post(f"{found.api}/task_runs/filter", asked, headers)
    created, began, ended = (
        datetime.fromisoformat(told[name])
        for name in ("created", "start_time", "end_time")
    )
    return {
        "state": told["state"]["name"],
        "seconds": (ended - created).total_seconds(),
        "until it runs": (began - created).total_seconds(),
        "in stages": sum(task["total_run_time"] for task in tasks),
        "stages": sorted(task["state"]["name"] for task in tasks),
        "cpu seconds": _spent(root) - before,
        "load": os.getloadavg()[0],
    }


def call(root: Path, environment: dict[str, str], *arguments: str) -> str:
    """The output of `python -m ...`. Raises RuntimeError with what it says."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def _own() -> list[str]:
    return ["--network", NETWORK]


def _spent(root: Path) -> float:
    """CPU seconds of what the worker started and saw end."""
    record = processes.find("worker", root / ".kmunet" / "cluster")
    process = record.process() if record else None
    spent = 0.0
    for member in [process, *process.children(recursive=True)] if process else []:
        times = member.cpu_times()
        spent += times.children_user + times.children_system
    return spent
