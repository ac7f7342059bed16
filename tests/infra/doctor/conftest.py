import os
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "flows"))  # small_project

NAMES = ("KMUNET_", "MLFLOW_TRACKING", "PREFECT_API", "RAY_ADDRESS")


@pytest.fixture(autouse=True)
def no_services(monkeypatch):
    """A user who has set no address."""
    for name in [n for n in os.environ if n.startswith(NAMES)]:
        if name != "KMUNET_TEST_DATA":
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def free_port():
    """Of this machine; nothing listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
