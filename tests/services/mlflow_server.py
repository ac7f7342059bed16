"""A real MLflow server for tests: on a free port, killed and started as asked."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from urllib.request import urlopen


class MLflowServer:
    """Its store lies in `root`; the address stays the same over restarts."""

    def __init__(self, root):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.root, self.uri = root, f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        artifacts = (self.root / "artifacts").as_uri()
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.root / 'server.db'}",
            "--default-artifact-root", artifacts,
        ]  # fmt: skip
        hidden = ("MLFLOW_TRACKING_URI",)
        env = {key: value for key, value in os.environ.items() if key not in hidden}
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.1)
        raise RuntimeError((self.root / "server.log").read_text())

    def kill(self):
        """As a crash: all its processes at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.wait(10)
        self.process = None
