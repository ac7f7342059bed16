"""Up, down and status of the three services together."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.local import processes, runs
from infra.local.services import (
    Addresses,
    Service,
    client_environment,
    server_home,
    services,
)
from kmunet.errors import ServiceError

NAMES = ("prefect", "mlflow", "worker")
START_LIMIT = 180.0  # seconds; the first start makes the databases


def up(root: Path, prefect_port: int, mlflow_port: int) -> None:
    """Start what does not run, wait for it, deploy. Nothing stays if one fails."""
    folder = _folder(root)
    at = _addresses(folder, prefect_port, mlflow_port)
    missing = [s for s in services(root, at) if not processes.find(s.name, folder)]
    if not missing:
        print("already up")
        _tell(root, at)
        return
    for service in missing:
        processes.check_port(service)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _start([service for service in missing if service.port], folder)
        runs.bury(root, f"{at.prefect}/api", server_home(root / ".kmunet"))
        _start([service for service in missing if not service.port], folder)
        deploy(root, client_environment(root, at))
    except BaseException:
        _stop([service.name for service in missing], folder)
        raise
    _tell(root, at)


def down(root: Path) -> None:
    """End the runs, then the worker, then the servers, which hear of both."""
    folder = _folder(root)
    server = processes.find("prefect", folder)
    api = f"{_addresses(folder, 4200, 5000).prefect}/api" if server else None
    if ended := runs.end(root, api):
        print(f"ended {ended} flow run(s)", flush=True)
    stopped = _stop(list(NAMES), folder)
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(root: Path) -> int:
    """Print what runs; return 0 if all do, else 1."""
    folder = _folder(root)
    records = [processes.find(name, folder) for name in NAMES]
    for name, record in zip(NAMES, records, strict=True):
        where = f", port {record.port}" if record and record.port else ""
        print(f"{name:8} {f'pid {record.pid}{where}' if record else 'not running'}")
    return 0 if all(records) else 1


def _start(group: list[Service], folder: Path) -> None:
    """Start several at once, then wait for each."""
    records = [(service, processes.start(service, folder)) for service in group]
    for service, record in records:
        processes.wait(service, record, folder, START_LIMIT)
        print(f"{service.name} is ready", flush=True)


def deploy(root: Path, client: Mapping[str, str]) -> None:
    """Make the deployments of prefect.yaml. ServiceError with what Prefect says."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=root,
        env=os.environ | dict(client),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise ServiceError(f"prefect.yaml cannot be deployed:\n{tail}")


def _stop(names: list[str], folder: Path) -> list[str]:
    return [name for name in reversed(names) if processes.stop(name, folder)]


def _addresses(folder: Path, prefect_port: int, mlflow_port: int) -> Addresses:
    """Return where the servers are: a running one stays on its port."""
    prefect, mlflow = (
        processes.find("prefect", folder),
        processes.find("mlflow", folder),
    )
    return Addresses(
        prefect.port if prefect and prefect.port else prefect_port,
        mlflow.port if mlflow and mlflow.port else mlflow_port,
    )


def _folder(root: Path) -> Path:
    return root / ".kmunet" / "local"


def _tell(root: Path, at: Addresses) -> None:
    print(f"""
Prefect  {at.prefect}
MLflow   {at.mlflow}
worker   pool kmunet; logs of all three in {_folder(root)}

In the shell from which you work:
  export PREFECT_API_URL={at.prefect}/api
  export MLFLOW_TRACKING_URI={at.mlflow}
Then, for instance:
  .venv/bin/prefect deployment run 'kmunet/train' --watch \\
    -p datasets='["busi"]' -p raw='{{"busi": "/path/to/Dataset_BUSI.zip"}}'
  make down""")
