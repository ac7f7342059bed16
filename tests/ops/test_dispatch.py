"""One dispatch: names, refusals, what "auto" means, a later version taking over."""

import logging
from dataclasses import replace
from typing import get_args

import pytest
import torch

from kmunet import ops
from kmunet.errors import ConfigError
from kmunet.ops import cpu, dispatch, naive
from kmunet.ops.dispatch import Backend

AUTO = "cpu" if cpu.usable() else "chunked"  # cpu: where a compiler is


@pytest.fixture
def registry():
    """The registry as it was, afterwards."""
    before, announced = dict(dispatch._registry), set(dispatch._announced)
    yield dispatch._registry
    dispatch._registry.clear()
    dispatch._registry.update(before)
    dispatch._announced.clear()
    dispatch._announced.update(announced)


def scan():
    one = torch.ones(1, 1, 2)
    return ops.selective_scan(one, one, -torch.ones(1, 1), one, one)


def test_auto_is_the_kernel_on_a_cpu_and_chunked_elsewhere():
    assert ops.backend() == AUTO
    if not torch.cuda.is_available():
        assert ops.backend("cuda:0") == "chunked"
    names = ("auto", "cpu", "triton", "mamba-ssm", "chunked", "naive")
    assert ops.backends() == names


def test_params_know_the_same_names():
    pytest.importorskip("pydantic")
    from kmunet.config import TrainParams

    field = TrainParams.model_fields["scan_backend"].annotation
    assert sorted(get_args(field)) == sorted(ops.backends())


def test_on_a_gpu_triton_comes_first_and_mamba_ssm_before_plain_torch(registry):
    def usable(*names):
        for name in ("triton", "mamba-ssm"):
            here = name in names
            registry[name] = replace(registry[name], usable=lambda here=here: here)
        return ops.backend("cuda")

    assert usable("triton", "mamba-ssm") == "triton"
    assert usable("mamba-ssm") == "mamba-ssm"
    assert usable() == "chunked"
    usable("triton", "mamba-ssm")
    assert ops.backend("cpu") == AUTO  # the interpreter is only for those who ask


def test_without_a_kernel_auto_is_chunked(registry, monkeypatch):
    monkeypatch.setitem(registry, "cpu", replace(registry["cpu"], usable=lambda: False))
    assert ops.backend() == "chunked"
    with pytest.raises(ConfigError, match="'cpu' cannot run on this machine"):
        ops.use_backend("cpu")


def test_as_a_context_and_for_good():
    with ops.use_backend("naive"):
        assert ops.backend() == "naive"
        with ops.use_backend("auto"):
            assert ops.backend() == AUTO
        assert ops.backend() == "naive"
    assert ops.backend() == AUTO
    ops.use_backend("naive")
    assert ops.backend() == "naive"
    ops.use_backend("auto")
    assert ops.backend() == AUTO


def test_restored_after_an_error():
    with pytest.raises(RuntimeError), ops.use_backend("naive"):
        raise RuntimeError
    assert ops.backend() == AUTO


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'magic'; known are auto, cpu, triton"):
        ops.use_backend("magic")
    assert ops.backend() == AUTO


def test_a_faster_version_is_taken_where_it_runs(registry):
    calls = []

    def fast(*arguments):
        calls.append(arguments)
        return naive.selective_scan(*arguments)

    dispatch.register(Backend("fast", fast, frozenset({"cpu"})), first=True)
    assert ops.backend("cpu") == "fast"
    assert ops.backend("cuda") == "chunked"
    scan()
    assert len(calls) == 1


def test_an_unusable_version_is_passed_over_and_refused(registry):
    broken = Backend("broken", naive.selective_scan, usable=lambda: False)
    dispatch.register(broken, first=True)
    assert ops.backend() == AUTO
    with pytest.raises(ConfigError, match="'broken' cannot run on this machine"):
        ops.use_backend("broken")


def test_the_version_in_use_is_logged_once(registry, caplog):
    dispatch._announced.clear()
    with caplog.at_level(logging.INFO, logger="kmunet.ops"):
        scan()
        scan()
    assert caplog.messages == [f"selective scan: {AUTO} on cpu"]


def test_versions_agree_through_the_dispatch():
    with ops.use_backend("naive"):
        expected = scan()
    torch.testing.assert_close(scan(), expected)
