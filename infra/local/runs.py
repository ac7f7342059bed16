"""Flow runs of the local worker: ended before it goes, buried when they died unseen.

A run whose process is gone but whose state is Running would hold its deployment's
concurrency slot for ever, and every later run would wait for it.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from infra.local.http import post
from infra.local.services import POOL

GRACE = 30.0  # seconds for a run to end its stage and report its state
_ACTIVE = ["RUNNING", "PENDING", "CANCELLING"]


def end(root: Path, api: str | None) -> int:
    """End this checkout's runs of a server (None: of any); return how many.

    They report it.
    """
    processes = [process for process, _ in _engines(root, api)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, GRACE)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # its stage goes with it: flows/leash.py
    return len(processes)


def bury(root: Path, api: str, home: Path, headers: Mapping[str, str] = {}) -> int:
    """Set runs without a process to Crashed. Return how many.

    home: PREFECT_HOME of the server, which is on this machine.
    """
    alive = {run for _, run in _engines(root, api)}
    question = {
        "flow_runs": {"state": {"type": {"any_": _ACTIVE}}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    dead = [
        run["id"]
        for run in post(f"{api}/flow_runs/filter", question, headers)
        if run["id"] not in alive
    ]
    for run in dead:
        message = "Its worker was gone when the services were started again."
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        post(f"{api}/flow_runs/{run}/set_state", {"state": state}, headers)
    _release(dead, api, home, headers)
    return len(dead)


def _release(dead: list[str], api: str, home: Path, headers: Mapping[str, str]) -> None:
    """Give back the slots that dead runs hold, which else are free in minutes."""
    for file in (home / "concurrency_leases").glob("*.json"):
        # What cannot be read, or is no lease, is left to the server.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            lease = json.loads(file.read_text(encoding="utf-8"))
            if lease["metadata"]["holder"]["id"] in dead:
                place = f"{api}/v2/concurrency_limits/decrement-with-lease"
                post(place, {"lease_id": lease["id"]}, headers)


def _engines(root: Path, api: str | None) -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes that carry these runs, and the runs' ids."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if "prefect.engine" not in process.cmdline():
                continue
            env = process.environ()
            ours = env.get("KMUNET_ROOT") == str(root)
            if ours and api in (None, env.get("PREFECT_API_URL")):
                yield process, env.get("PREFECT__FLOW_RUN_ID", "")
