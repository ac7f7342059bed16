"""Tasks go to torch's own threads: none is started for a call, nor in a fork missed."""

import subprocess
import sys
from ctypes import c_void_p
from pathlib import Path

import pytest
import torch

from kmunet.ops import selective_scan_2d, use_backend
from kmunet.ops.cpu.native import kernel, torchs_threads

pytestmark = pytest.mark.skipif(
    kernel() is None, reason="no C++ compiler on this machine: install g++ or clang++"
)
with_team = pytest.mark.skipif(
    not torchs_threads().value, reason="torch has another OpenMP here, or none"
)

# A thread that watches sees those of a call come and go.
COUNT = """
import os, threading, torch
from tests.ops.cpu.test_threads import scan
torch.set_num_threads(2)
scan()
seen, over = set(), threading.Event()
def watch():
    while not over.is_set():
        seen.update(os.listdir("/proc/self/task"))
watcher = threading.Thread(target=watch)
watcher.start()
mine = set(os.listdir("/proc/self/task"))
for _ in range(300):
    scan()
over.set()
watcher.join()
assert len(mine) >= 3, mine
assert not seen - mine, seen - mine
"""
# Torch's own parallel operations hang in a fork: the kernel alone is called there.
FORK = """
import os, torch
from kmunet.ops.cpu import kan
from kmunet.ops.cpu.native import kernel
torch.set_num_threads(2)
x, start, step = torch.randn(500, 20), torch.full((20,), -2.2), torch.full((20,), 2.5)
def run():
    return kan.features(kernel(), x, 0, 9, start, step).numpy().tobytes()
expected = run()
child = os.fork()
if not child:
    os._exit(0 if run() == expected else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

# Torch's threads are there, and the kernel is not loaded yet.
FORK_FIRST = """
import os, torch
from kmunet.ops.cpu import kan
from kmunet.ops.cpu.native import kernel
torch.set_num_threads(2)
(torch.randn(2000, 2000) ** 2).sum()
child = os.fork()
if not child:
    x, start, step = torch.ones(500, 20), torch.ones(20), torch.ones(20)
    kan.features(kernel(), x, 0, 9, start, step)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def scan():
    """Two images, enough for two threads."""
    stream = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=stream)

    x, A = normal(2, 8, 6, 5), torch.ones(32, 4)
    weights = (normal(4, 1 + 8, 8), normal(4, 8, 1), normal(4, 8), A, normal(32))
    with use_backend("cpu"), torch.inference_mode():
        return selective_scan_2d(x, *weights)


def run(script):
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert answer.returncode == 0, answer.stderr


@with_team
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux' /proc")
def test_no_thread_is_started_for_a_call():
    run(COUNT)


def test_a_fork_has_threads_of_its_own():
    """Where those of the process before it are no more: it would wait for ever."""
    run(FORK)


@with_team
def test_a_kernel_that_is_loaded_in_a_fork():
    run(FORK_FIRST)


@with_team
def test_the_same_bits_without_them():
    library, before = kernel().library, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = scan()
        library.kmunet_use_team(c_void_p())
        assert torch.equal(scan(), expected)
    finally:
        library.kmunet_use_team(torchs_threads())
        torch.set_num_threads(before)
