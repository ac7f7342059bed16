"""A driver joins a cluster: by the node that this machine is, or by one of its own.

Ray wants a driver on a node. Where this machine is none, it becomes one without
resources for as long as the driver lives (`ray_node.py`).
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kmunet.errors import ConfigError, ServiceError, UnavailableError

LIMIT = 60.0  # seconds for Ray's processes to start
TOKEN = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH), the token of "
    "the cluster's head"
)


def check_address(address: str) -> None:
    """Raise what is wrong with RAY_ADDRESS, in seconds: Ray waits a minute."""
    if address.startswith("ray://"):
        raise ConfigError(
            f"RAY_ADDRESS is '{address}': Ray Train does not run through a client; "
            "write the head's HOST:6379"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"RAY_ADDRESS is '{address}': write HOST:PORT or 'auto'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        away = isinstance(error, OSError) and not isinstance(error, socket.gaierror)
        why = "unknown host name" if isinstance(error, socket.gaierror) else error
        kind = UnavailableError if away else ServiceError
        raise kind(
            f"RAY_ADDRESS is '{address}': no Ray answers ({why}): start its head, "
            "correct the address, or unset it to train on this machine alone"
        ) from None


@contextmanager
def node_of(address: str) -> Iterator[str]:
    """The temp folder of the cluster's node that this machine is, or becomes.

    Raises ServiceError where no token fits or the node does not start.
    """
    for node in _alive(address):
        if node.temp_dir and Path(node.object_store_socket_name).exists():
            yield str(node.temp_dir)
            return
    temp = tempfile.mkdtemp(prefix="kmunet-ray-")  # short: sockets lie below
    log = Path(temp) / "node.log"
    try:
        with log.open("wb") as out, _started(address, temp, out) as process:
            _wait(address, temp, process, log)
            yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


@contextmanager
def _started(address: str, temp: str, out: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.ray_node", address, temp],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=out,
        start_new_session=True,  # Ctrl-C is for the driver: it leaves first
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _wait(
    address: str, temp: str, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.monotonic() + LIMIT
    while not any(node.temp_dir == temp for node in _alive(address)):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()[-5:]
            why = "ended" if ended else f"is not there after {LIMIT:.0f} s"
            raise ServiceError(
                f"RAY_ADDRESS is '{address}': this machine's node {why}; every node "
                "must reach every other, all ports:\n" + "\n".join(lines)
            )
        time.sleep(0.3)


def _alive(address: str) -> list[Any]:
    """The cluster's nodes, as its head knows them."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        found = GcsClient(address=address).get_all_node_info(timeout=10)
    except AuthenticationError:
        raise ServiceError(
            f"RAY_ADDRESS is '{address}': the token is missing or another; {TOKEN}"
        ) from None
    except Exception as error:
        raise ServiceError(f"RAY_ADDRESS is '{address}': {error}") from None
    return [node for node in found.values() if node.state == 0]
