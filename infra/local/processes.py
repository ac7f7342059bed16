"""Processes that outlive this one: started, found again and ended by their record."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.local.services import Service
from kmunet.errors import ServiceError

GRACE = 20.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Record:
    """What is known of a started service; `created` tells a reused pid apart."""

    name: str
    pid: int
    created: float
    port: int | None
    ends_by: int = signal.SIGTERM

    def process(self) -> psutil.Process | None:
        """Return the process, if it is still the one that was started."""
        try:
            process = psutil.Process(self.pid)
            ours = abs(process.create_time() - self.created) < 0.01
            dead = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if ours and not dead else None


def start(service: Service, folder: Path) -> Record:
    """Start a service in a session of its own; write its record and log."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{service.name}.log").open("wb") as log:
        child = subprocess.Popen(
            service.command,
            env=os.environ | dict(service.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_default_signals,
            **identity(service.user),
        )
    created = psutil.Process(child.pid).create_time()
    record = Record(service.name, child.pid, created, service.port, service.ends_by)
    (folder / f"{service.name}.json").write_text(json.dumps(asdict(record)) + "\n")
    return record


def find(name: str, folder: Path) -> Record | None:
    """Return the record of a service that runs, or None."""
    try:
        record = Record(**json.loads((folder / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.process() else None


def wait(service: Service, record: Record, folder: Path, limit: float) -> None:
    """Wait until a service is ready. Raises ServiceError with the end of its log."""
    log = folder / f"{service.name}.log"
    deadline = time.monotonic() + limit
    while not service.ready():
        if record.process() is None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise ServiceError(f"{service.name} ended while starting; {log}:\n{tail}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{service.name} is not ready after {limit:.0f} s; see {log}"
            )
        time.sleep(0.2)


def stop(name: str, folder: Path) -> bool:
    """End a service's process group and forget it; False if it did not run."""
    record = find(name, folder)
    if record:
        members = _group(record.pid)
        _signal(record.pid, record.ends_by)
        _, alive = psutil.wait_procs(members, GRACE)
        if alive:
            _signal(record.pid, signal.SIGKILL)
            psutil.wait_procs(alive, 5)
    (folder / f"{name}.json").unlink(missing_ok=True)
    return record is not None


def check_port(service: Service) -> None:
    """Raise ServiceError if another process has the service's port."""
    if service.port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.host, service.port))
        except (OSError, OverflowError) as error:
            raise ServiceError(
                f"port {service.port} for {service.name} cannot be had ({error}); "
                f"end what uses it, or choose another with {service.option} PORT"
            ) from None


def identity(user: int | None) -> dict[str, Any]:
    """Arguments of Popen to run as this user, in his main group alone."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}


def _group(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == pid:
                found.append(process)
    return found


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _default_signals() -> None:
    # A shell's background jobs ignore SIGINT, and what they start would too: the
    # worker turns SIGTERM into SIGINT and could then not be ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
