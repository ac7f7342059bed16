"""One stack for all tests here: servers and worker take half a minute to start."""

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))  # small_project

from small_project import make_project, python


@dataclass
class Stack:
    """The services of one checkout."""

    root: Path
    prefect_port: int
    mlflow_port: int

    def call(self, *arguments):
        return python(self.root, "-m", "infra.local", *arguments)

    def up(self):
        return self.call(
            "up",
            *("--prefect-port", str(self.prefect_port)),
            *("--mlflow-port", str(self.mlflow_port)),
        )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("stack") / "project")
    found = Stack(root, free_port(), free_port())
    done = found.up()
    try:
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.call("down")
        for process in left(root):
            os.kill(process.pid, signal.SIGKILL)


def left(root):
    """Return the processes that belong to a checkout's services or runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KMUNET_ROOT") == str(root) or any(
                str(root) in word for word in process.cmdline()
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")
