"""Every build of the kernel that this CPU can run; skipped where none can be built."""

import pytest
import torch

from kmunet.ops.cpu import usable
from kmunet.ops.cpu.compiler import variants
from kmunet.ops.cpu.native import load

NAMES = [variant.name for variant in variants()]


@pytest.fixture(params=NAMES)
def kernel(request):
    if not usable():
        pytest.skip("no C++ compiler on this machine: install g++ or clang++")
    return load(variants()[NAMES.index(request.param)])


@pytest.fixture
def threads():
    """Set torch's number of threads; as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
