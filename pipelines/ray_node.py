"""`python -m pipelines.ray_node HEAD TEMP`: this machine as a node without resources.

A driver must be on a node of its cluster. This one ends when its standard input does,
so with the driver, however that ends; TEMP is its own, that no other Ray of this
machine takes it for theirs.
"""

import subprocess
import sys

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
        ray.terminate()
        try:
            return ray.wait(15)
        except subprocess.TimeoutExpired:
            ray.kill()
            return 1


if __name__ == "__main__":
    raise SystemExit(main())
