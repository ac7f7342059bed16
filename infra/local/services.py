"""What runs: each service's command, environment and how one sees that it is ready."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.http import answers, post
from pipelines.paths import state_dir

HOST = "127.0.0.1"
POOL, WORKER = "kmunet", "local"  # prefect.yaml names the pool
LEASES = {
    # In the server's memory, as by default, a new start forgets who holds a slot of a
    # concurrency limit, which is then never free again. These lie in PREFECT_HOME.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
}
WORKER_SETTINGS = {"PREFECT_WORKER_QUERY_SECONDS": "2"}


@dataclass(frozen=True)
class Service:
    """A process of its own session, with a log and a record in its stack's folder."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    ready: Callable[[], bool]
    port: int | None = None
    option: str = ""  # what chooses another port
    host: str = HOST
    user: int | None = None  # who runs it, where that is not the caller
    ends_by: int = signal.SIGTERM


@dataclass(frozen=True)
class Addresses:
    """Where the servers are."""

    prefect_port: int
    mlflow_port: int
    prefect: str = field(init=False)
    mlflow: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefect", f"http://{HOST}:{self.prefect_port}")
        object.__setattr__(self, "mlflow", f"http://{HOST}:{self.mlflow_port}")


def services(root: Path, at: Addresses) -> list[Service]:
    """Return the three services in the order in which they start."""
    return [_prefect(root, at), _mlflow(root, at), _worker(root, at)]


def client_environment(root: Path, at: Addresses) -> dict[str, str]:
    """Return what a client of both servers needs."""
    return {
        "KMUNET_ROOT": str(root),
        "MLFLOW_TRACKING_URI": at.mlflow,
        "PREFECT_API_URL": f"{at.prefect}/api",
        "PREFECT_HOME": str(root / ".kmunet" / "prefect-worker"),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(root), os.environ.get("PYTHONPATH")])
        ),
    }


def server_home(folder: Path) -> Path:
    """PREFECT_HOME of the Prefect server of a stack with this folder."""
    return folder / "prefect-server"


def _prefect(root: Path, at: Addresses) -> Service:
    return Service(
        name="prefect",
        command=module(
            "prefect", "server", "start", "--host", HOST, "--port", at.prefect_port
        ),
        env={
            **LEASES,
            "PREFECT_HOME": str(server_home(root / ".kmunet")),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_UI_API_URL": f"{at.prefect}/api",
        },
        ready=lambda: answers(f"{at.prefect}/api/health"),
        port=at.prefect_port,
        option="--prefect-port",
    )


def _mlflow(root: Path, at: Addresses) -> Service:
    # Artifacts by file path and not through the server: runs logged straight into
    # the database, without a server, are then the same to both.
    state = state_dir(root)
    artifacts = (state / "mlartifacts").as_uri()
    return Service(
        name="mlflow",
        command=module(
            *("mlflow", "server", "--host", HOST, "--port", at.mlflow_port),
            *("--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}"),
            *("--artifacts-destination", artifacts),
            *("--default-artifact-root", artifacts, "--workers", 1),
        ),
        env={"MLFLOW_TRACKING_URI": ""},
        ready=lambda: answers(f"{at.mlflow}/health"),
        port=at.mlflow_port,
        option="--mlflow-port",
    )


def _worker(root: Path, at: Addresses) -> Service:
    return Service(
        name="worker",
        command=worker_command(WORKER),
        env=client_environment(root, at) | WORKER_SETTINGS,
        ready=lambda: online(f"{at.prefect}/api", WORKER),
    )


def worker_command(name: str) -> tuple[str, ...]:
    """Of a Prefect worker of our pool; its environment says which server."""
    start = ("prefect", "worker", "start", "--pool", POOL, "--type", "process")
    return module(*start, "--name", name)


def module(name: str, *arguments: str | int) -> tuple[str, ...]:
    """`python -m name arguments`."""
    return (sys.executable, "-m", name, *map(str, arguments))


def online(api: str, worker: str, headers: Mapping[str, str] = {}) -> bool:
    """Whether Prefect's server hears of a worker of our pool."""
    try:
        workers = post(f"{api}/work_pools/{POOL}/workers/filter", {}, headers)
    except OSError:
        return False
    return any(w["name"] == worker and w["status"] == "ONLINE" for w in workers)
