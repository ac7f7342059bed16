"""What a seed and the settings fix."""

import random

import numpy as np
import pytest
import torch

from kmunet.training.determinism import make_deterministic, seed_step

BACKENDS = torch.backends


def set_as_it_comes():
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True


@pytest.fixture(autouse=True)
def restored():
    threads = torch.get_num_threads()
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    set_as_it_comes()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_every_generator_is_seeded():
    threads = torch.get_num_threads()
    make_deterministic(3, threads)
    first = drawn()
    make_deterministic(3, threads)
    assert drawn() == first
    make_deterministic(4, threads)
    assert not set(drawn()) & set(first)


def test_a_step_has_its_numbers():
    def number(*step):
        seed_step(*step)
        return float(torch.rand(()))

    assert number(1, 2, 3) == number(1, 2, 3)
    assert len({number(1, 2, 3), number(1, 2, 4), number(1, 3, 3)}) == 3


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_float32_is_no_tf32(before):
    """Of products and convolutions, as the older and the newer settings have it."""
    torch.set_float32_matmul_precision(before)
    BACKENDS.cudnn.allow_tf32 = True
    make_deterministic(0, torch.get_num_threads())
    assert torch.get_float32_matmul_precision() == "highest"
    assert not BACKENDS.cudnn.allow_tf32
    assert not BACKENDS.cuda.matmul.allow_tf32
    with BACKENDS.cudnn.flags(enabled=True):  # reads them all
        pass
    if hasattr(BACKENDS.cudnn, "conv"):
        assert BACKENDS.cudnn.conv.fp32_precision != "tf32"
        assert BACKENDS.cuda.matmul.fp32_precision != "tf32"


def test_what_has_no_deterministic_version_warns():
    make_deterministic(0, torch.get_num_threads())
    assert torch.is_deterministic_algorithms_warn_only_enabled()
