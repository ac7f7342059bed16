"""Servers on loopback for `benchmarks.scale`, each until its block ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 120.0  # seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def prefect_server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its API's address, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    own = {"PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": "",
           "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    with _running(command, own, f"{url}/health") as process:
        yield url, process


@contextmanager
def mlflow_server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
               "--artifacts-destination", str(home / "artifacts")]  # fmt: skip
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": "",
           "MLFLOW_DISABLE_TELEMETRY": "true"}  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _running(command, own, f"{url}/health") as process:
        yield url, process


@contextmanager
def s3_server(home: Path) -> Iterator[tuple[str, dict[str, Any], psutil.Process]]:
    """A bucket, s3fs's options for it, and rclone's process."""
    (home / "bucket").mkdir(parents=True)
    port = free_port()
    rclone = Path(sys.executable).parent / "rclone"
    command = [str(rclone), "serve", "s3", "--addr", f"127.0.0.1:{port}",
               "--auth-key", "key,scale-secret", str(home)]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    options = {"key": "key", "secret": "scale-secret", "endpoint_url": url}
    with _running(command, {}, url) as process:
        yield "bucket", options, process


@contextmanager
def _running(
    command: list[str], own: dict[str, str], url: str
) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, env={**os.environ, **own}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(url)
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(url: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return  # it refuses, so it is there
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
