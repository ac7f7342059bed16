"""One network namespace as a machine: processes in it, its cable, its end."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from infra.nodes.network import Network, ip
from kmunet.errors import ServiceError

# Mounts of the new mount namespace, then the command, with a PID namespace's own /proc.
_ENTER = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child",
          "--mount-proc", "sh", "-c")  # fmt: skip


def add(network: Network, number: int) -> str:
    """Make the namespace of a node and plug it in; return its name."""
    name = f"{network.name}-{number}"
    if name in network.namespaces():
        return name
    ip("netns", "add", name)
    ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("link", "set", name, "master", network.name, "up")
    ip("-n", name, "addr", "add", f"{network.address(number)}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        ip("-n", name, "link", "set", device, "up")
    # Nothing is forwarded; but without a route, Ray warns that it finds no address.
    ip("-n", name, "route", "add", "default", "via", network.host)
    return name


def start(
    name: str,
    command: Sequence[str],
    mounts: Sequence[str],
    env: Mapping[str, str],
    log: Path,
) -> None:
    """Run `command` with this environment alone; it outlives the caller.

    mounts: shell commands, run before it, whose mounts are seen there alone.
    """
    script = [f"echo {name} > /proc/sys/kernel/hostname", *mounts]
    whole = " && ".join([*script, f"exec {shlex.join(command)}"])
    with log.open("ab") as out:
        subprocess.run(
            ["setsid", "--fork", "ip", "netns", "exec", name, *_ENTER, whole],
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=True,
        )


def pids(name: str) -> list[int]:
    """All processes of a namespace."""
    try:
        return [int(pid) for pid in ip("netns", "pids", name).split()]
    except ServiceError:
        return []  # it is gone


def first(name: str) -> int | None:
    """The process that is number 1 there, whose end is the end of all."""
    for pid in pids(name):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
    return None


def entering(name: str) -> list[str]:
    """The command before a command, to run it beside what runs there."""
    pid = first(name)
    if pid is None:
        raise ServiceError(f"{name}: nothing runs there: start the node first")
    return ["nsenter", "--target", str(pid), "--mount", "--uts", "--pid", "--net"]


def kill(name: str, limit: float = 10.0) -> None:
    """End all processes at once, as a power cut does. Raises ServiceError."""
    deadline = time.monotonic() + limit
    while found := pids(name):
        if time.monotonic() > deadline:
            raise ServiceError(f"{name}: processes {found} do not end")
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def plug(name: str, inside: bool) -> None:
    """Take the cable out, or put it back in."""
    ip("link", "set", name, "up" if inside else "down")


def remove(name: str) -> None:
    """End all, and take the namespace away."""
    kill(name)
    with suppress(ServiceError):
        ip("netns", "delete", name)
    with suppress(ServiceError):  # else it stays while a socket of it lives
        ip("link", "delete", name)
