"""`python -m pipelines.ray_node HEAD TEMP`: this machine as a node without resources.

A driver must be on a node of its cluster. This one ends when its standard input does,
so with the driver, however that ends; TEMP is its own, that no other Ray of this
machine takes it for theirs.
"""

import os
import shutil
import signal
import subprocess
import sys

import psutil

STORE = 100 * 2**20  # bytes of shared memory


def command(head: str, temp: str) -> list[str]:
    """`ray start` in the foreground."""
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={head}"),
        *("--num-cpus=0", "--num-gpus=0", f"--temp-dir={temp}", "--block"),
        *(f"--object-store-memory={STORE}", "--disable-usage-stats"),
    ]


def main() -> int:
    """Start it, and end it when nobody is left to write to us."""
    head, temp = sys.argv[1:]
    with subprocess.Popen(command(head, temp), stdin=subprocess.DEVNULL) as ray:
        sys.stdin.read()
        family = psutil.Process(ray.pid).children(recursive=True)
        raylets = [process for process in family if process.name() == "raylet"]
        for process in raylets:
            process.terminate()  # it takes leave of the head
        psutil.wait_procs(raylets, 10)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, 5)
        for process in alive:
            process.kill()
        ray.kill()
    shutil.rmtree(temp, ignore_errors=True)  # a killed driver does not
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
