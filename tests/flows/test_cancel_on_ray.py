"""A cancelled driver leaves no training on a Ray cluster that it did not start."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from small_project import ROOT, alive, gone

from flows import process

pytestmark = pytest.mark.slow

# A stage that trains on the cluster: the worker notes its pid and hears nobody. Its
# loop is a function of __main__, which Ray sends by value: workers have our code alone.
STAGE = """
import sys
from pathlib import Path
from pipelines.stage import report_errors
from pipelines.ray_backend import Cluster, run_on_ray

def loop(config, reporter):
    import os, time
    from pathlib import Path
    Path(config["place"], "pid").write_text(str(os.getpid()))
    time.sleep(600)

cluster = Cluster(1, 1, False, 0, Path({place!r}) / "ray", "deaf")
def act():
    run_on_ray(loop, {{"place": {place!r}}}, cluster, print)
raise SystemExit(report_errors("train", act))
"""


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory):
    """A head of its own session on free ports; its address and environment."""
    home = tmp_path_factory.mktemp("h")
    env = os.environ | {"HOME": str(home), "RAY_AUTH_MODE": "disabled",
                        "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    port = _free_port()
    command = [*ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1",
               f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
               "--object-store-memory=100000000", f"--temp-dir=/tmp/kr{port}",
               "--min-worker-port=0", "--max-worker-port=0"]  # fmt: skip
    with (home / "log").open("wb") as log:
        head = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + 90
    while "Ray runtime started" not in (home / "log").read_text():
        assert time.monotonic() < deadline, (home / "log").read_text()
        time.sleep(0.3)
    yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    tree = [
        psutil.Process(head.pid),
        *psutil.Process(head.pid).children(recursive=True),
    ]
    os.killpg(head.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, 30)
    for found in alive:
        found.kill()
    head.wait(10)
    shutil.rmtree(f"/tmp/kr{port}", ignore_errors=True)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def stage(tmp_path):
    """The command of a stage, as the leash knows one, and where its worker notes."""
    package = tmp_path / "work" / "pipelines"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        f"__path__.append({str(ROOT / 'pipelines')!r})\n"
    )
    (package / "deaf_stage.py").write_text(STAGE.format(place=str(tmp_path)))
    return [sys.executable, "-m", "pipelines.deaf_stage"], tmp_path


def start(stage, ray_head, then):
    """Run the stage on the leash; `then(pid)` once its worker is at work."""
    command, place = stage
    path = os.pathsep.join([str(place / "work"), str(ROOT)])

    child = subprocess.Popen(
        [sys.executable, str(process.LEASH), *command],
        cwd=place / "work",
        env=ray_head | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (place / "pid").exists():
        assert child.poll() is None, "the stage ended"
        assert time.monotonic() < deadline, "no worker"
        time.sleep(0.2)
    pid = int((place / "pid").read_text())
    assert alive(pid)
    assert pid not in [
        c.pid for c in psutil.Process(child.pid).children(recursive=True)
    ]
    then(child)
    child.stdin.close()
    began = time.monotonic()
    assert gone([pid], limit=30.0)
    child.wait(30)
    print(f"the worker was gone after {time.monotonic() - began:.1f} s")


def test_a_stage_that_is_cancelled_takes_its_training_along(stage, ray_head):
    start(stage, ray_head, lambda child: None)


def test_a_stage_that_is_killed_takes_its_training_along(stage, ray_head):
    def kill(child):
        for found in psutil.Process(child.pid).children(recursive=True):
            found.kill()

    start(stage, ray_head, kill)
