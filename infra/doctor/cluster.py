"""Ray: the cluster that RAY_ADDRESS names, or room to start one here."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from infra.doctor.check import Finding, error, ok, warning
from infra.doctor.machine import probe
from kmunet.errors import ServiceError

LIMIT = 10.0  # seconds: Ray's import, then its head's answer
STORE = 200 * 2**20  # bytes that an embedded Ray takes of shared memory
MEMORY = Path("/dev/shm")
TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or _PATH), the token of the head"


def ray() -> Iterator[Finding]:
    """Versions and resources, asked of the head without joining."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address == "local":
        yield _embedded()
        return
    if not address.startswith("ray://"):
        yield from _cluster(address)
        return
    remedy = "set RAY_ADDRESS to the head's HOST:6379, from a node of the cluster"
    yield error("ray", f"{address}: Ray Train does not run through a client", remedy)


def _cluster(address: str) -> Iterator[Finding]:
    try:
        if address != "auto":
            _connect(address)
        found = probe("pipelines.ray_probe", address, limit=LIMIT)
    except ServiceError as problem:
        if "AuthenticationError" in str(problem):
            yield error("ray", f"{address}: the token is missing or another", TOKEN)
        else:
            start = "`ray start --head` on the head, or correct RAY_ADDRESS"
            yield error("ray", f"{address}: {problem}", start)
        return
    ours = {"ray": version("ray"), "python": ".".join(map(str, sys.version_info[:3]))}
    for name, have in ours.items():
        if found[name] != have:
            text = f"{address} runs {name} {found[name]}, here is {have}"
            yield error("ray", text, f"the same {name} on every node and here")
            return
    resources = f"{found['cpus']:g} CPUs, {found['gpus']:g} GPUs"
    text = f"{address} answers, {found['nodes']} node(s), {resources}"
    if found["nodes"] and found["cpus"]:
        yield ok("ray", f"{text}, version {ours['ray']}")
    else:
        yield warning("ray", text, f"add nodes: `ray start --address {address}`")


def _connect(address: str) -> None:
    """Ray itself would wait a minute for a head that is not there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ServiceError("not HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except (OSError, OverflowError) as problem:
        why = "unknown host name" if isinstance(problem, socket.gaierror) else problem
        raise ServiceError(f"no connection: {why}") from None


def _embedded() -> Finding:
    free = shutil.disk_usage(MEMORY).free if MEMORY.exists() else 0
    cores = os.cpu_count() or 1
    text = f"embedded: {cores} CPUs, {free / 2**20:.0f} MiB free in {MEMORY}"
    if free < STORE:
        remedy = "give it 1 GiB (`docker run --shm-size 1g`): Ray else uses slow files"
        return warning("ray", text, remedy)
    return ok("ray", text)
