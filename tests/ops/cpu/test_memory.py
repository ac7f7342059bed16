"""Memory that runs out in the kernel is an error of the call, not of the process."""

import os
import subprocess
import sys

import pytest

CHILD = """
import resource, sys
from pathlib import Path
import torch
from kmunet.ops.cpu.compiler import variants
from kmunet.ops.cpu.native import Problem, load

kernel = load(next(v for v in variants() if v.name == sys.argv[1]))
torch.set_num_threads(2)

def call(free, batch, directions, channels, side, states):
    "Twice: with `free` MB of address space left, then with all of it."
    problem = Problem(
        batch, directions, channels, side, side, states, 1, shared=True, softplus=True
    )
    lines = directions * channels
    given = {
        "x": torch.rand(batch, side, side, channels),
        "projection": torch.rand(directions, 1 + 2 * states, channels),
        "weight": torch.rand(lines, 1), "bias": torch.rand(lines),
        "A": -torch.rand(lines, states), "skip": torch.rand(lines),
    }
    y = torch.full_like(given["x"], torch.nan)
    used = int(Path("/proc/self/statm").read_text().split()[0])
    limit = used * resource.getpagesize() + free * 2**20
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        kernel.forward(problem, **given, y=y)
        print("enough")
    except MemoryError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_AS, before)
    kernel.forward(problem, **given, y=y)
    print(bool(y.isfinite().all()))

call(6, 1, 4, 4, 512, 2)  # outputs of three directions apart: 12 MB
call(6, 2, 1, 4096, 2, 256)  # two states in a worker: 8 MB, beside 4 of parameters
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_memory_that_runs_out_in_the_kernel_raises_memory_error(kernel):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kernel.name],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    refused, whole, refused_in_a_worker, whole_again = done.stdout.splitlines()
    for message in (refused, refused_in_a_worker):
        assert "no memory" in message
        assert "forward" in message
        assert "smaller batch" in message
    assert whole == whole_again == "True"
