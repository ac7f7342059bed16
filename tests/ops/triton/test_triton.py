"""Triton's kernels: what compiles, how scans are cut up, and what is refused."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from kmunet.errors import ConfigError
from kmunet.ops import selective_scan, selective_scan_2d, triton, use_backend
from kmunet.ops.triton import usable
from kmunet.ops.triton.plan import Plan, plan
from kmunet.ops.triton.products import by_direction
from tests.ops.samples import NAMES_2D, assert_same, inputs, inputs_2d, results

pytest.importorskip("triton", reason="triton is not installed")


def test_every_kernel_compiles_for_a_gpu(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_all.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kernels) == 20
    for kernel in kernels:
        assert kernel["conversions"] == kernel["shared"] == 0, kernel
        if kernel["kernel"] == "gradients":  # spills outside the loop over the states
            assert kernel["stack"] <= 128, kernel
        else:
            assert kernel["stack"] == 0, kernel
            assert kernel["registers"] <= 128, kernel


def test_a_plan_depends_on_neither_batch_nor_device():
    assert plan(16384, 32) == Plan(chunk=128, block=32)
    assert plan(4096, 64) == Plan(chunk=64, block=64)
    assert plan(256, 320) == Plan(chunk=32, block=64)
    cut = Plan(chunk=10, block=32, tile=4)
    assert (cut.chunks(21), cut.tiles(), cut.blocks(65)) == (3, 3, 3)


def test_refused_without_a_gpu(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not usable()
    with pytest.raises(ConfigError, match="'triton' cannot run on this machine"):
        use_backend("triton")


@pytest.fixture
def device(monkeypatch):
    if torch.cuda.is_available():
        return "cuda"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return "cpu"


@pytest.mark.parametrize(("interpreted", "place"), [(True, "meta"), (False, "cpu")])
def test_kernels_imported_for_another_device(device, monkeypatch, interpreted, place):
    from kmunet.ops.triton import scan

    monkeypatch.setattr(scan, "INTERPRETED", interpreted)
    with pytest.raises(ConfigError, match="TRITON_INTERPRET=1"):
        scan.check_device(torch.empty(1, device=place))


def results_2d(device, tensors):
    with use_backend("triton"):
        return results(selective_scan_2d, [t.to(device) for t in tensors], NAMES_2D)


def assert_right(found, tensors):
    with use_backend("naive"):
        truth = results(selective_scan_2d, [t.double() for t in tensors], NAMES_2D)
    assert_same(found, truth, 5e-6)


@pytest.mark.parametrize("cut", [Plan(3, 32, 2), Plan(4, 32, 4), Plan(64, 32, 3)])
def test_any_plan_gives_the_same_result(device, monkeypatch, cut):
    """Chunks that tiles do not divide, one chunk, one tile."""
    from kmunet.ops.triton import scan

    monkeypatch.setattr(scan, "plan", lambda *sizes: cut)
    tensors = inputs_2d(1, 2, 2, 4, 2, 1, torch.float32)
    assert_right(results_2d(device, tensors), tensors)


@pytest.mark.parametrize("keep", [True, False])
def test_y_keeps_no_more_memory_than_its_own(device, monkeypatch, keep):
    """Rows and columns are written apart, and y is kept until the backward pass."""
    from kmunet.ops.triton import scan

    monkeypatch.setattr(scan, "plan", lambda *sizes: Plan(3, 32, 2))
    x, *weights = (t.to(device) for t in inputs_2d(1, 2, 2, 4, 2, 1, torch.float32))
    with use_backend("triton"):
        y = selective_scan_2d(x.requires_grad_(keep), *weights)
    assert y.untyped_storage().nbytes() == 4 * y.numel()


def test_more_states_than_fit_into_registers(device, monkeypatch):
    from kmunet.ops.triton import problem, scan

    monkeypatch.setattr(problem, "GROUP", 2)
    monkeypatch.setattr(scan, "plan", lambda *sizes: Plan(3, 32, 2))
    tensors = inputs_2d(1, 2, 1, 4, 5, 1, torch.float32)
    assert_right(results_2d(device, tensors), tensors)
    u, delta, A, B, C, *_ = inputs(1, 1, 2, 5, 4, torch.float16)
    with use_backend("triton"):
        y = selective_scan(*(t.to(device) for t in (u, delta, A, B, C)))
    with use_backend("naive"):
        truth = selective_scan(*(t.double() for t in (u, delta, A, B, C)))
    assert y.dtype == torch.float16
    assert_same({"y": y}, {"y": truth}, 2e-3)


def test_every_block_gives_the_same_bits(device, monkeypatch):
    from kmunet.ops.triton import scan
    from kmunet.ops.triton.chunks import chunk_ends
    from kmunet.ops.triton.outputs import outputs
    from kmunet.ops.triton.tuning import BLOCKS

    monkeypatch.setattr(scan, "plan", lambda *sizes: Plan(3, 32, 2))
    tensors = inputs_2d(1, 34, 1, 4, 1, 1, torch.float32)
    found = []
    for config in BLOCKS:
        for kernel in (chunk_ends, outputs):
            monkeypatch.setattr(kernel, "configs", [config])
        found.append(results_2d(device, tensors))
    for again in found[1:]:
        assert all(torch.equal(found[0][name], again[name]) for name in NAMES_2D)


@pytest.fixture
def tuned(device, monkeypatch):
    """Kernels whose tuning looks at two configurations, and what it chose so far."""
    from kmunet.ops.triton import scan
    from kmunet.ops.triton.outputs import outputs
    from kmunet.ops.triton.tuning import BLOCKS

    def timed(call, quantiles):
        time.sleep(0.1)  # others may go on meanwhile
        call()
        return [1.0] * 3

    monkeypatch.setattr(scan, "plan", lambda *sizes: Plan(64, 32, 2))
    monkeypatch.setattr(outputs, "configs", BLOCKS)
    monkeypatch.setattr(outputs, "cache", {})
    monkeypatch.setattr(outputs, "cache_results", False)
    monkeypatch.setitem(vars(outputs), "do_bench", timed)
    with use_backend("triton"):
        yield outputs.cache


def scanned(device, batch):
    tensors = inputs_2d(batch, 2, 1, 3, 1, 1, torch.float32)
    with torch.no_grad():
        return selective_scan_2d(*(t.to(device) for t in tensors))


def test_tuned_anew_where_there_are_many_more_programs(device, tuned):
    for batch, choices in ((1, 1), (1, 1), (4, 2), (5, 2)):
        scanned(device, batch)
        assert len(tuned) == choices


def test_threads_share_the_kernels(device, tuned):
    expected = [scanned(device, batch) for batch in (1, 4)]
    tuned.clear()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda batch: scanned(device, batch), (1, 4)))
    assert all(map(torch.equal, found, expected))


def test_opcheck(device):
    """Shapes and strides that a compiler is told are those that come out."""
    from kmunet.ops.library_2d import scan_2d

    x, *weights = (t.to(device) for t in inputs_2d(1, 2, 1, 2, 1, 1, torch.float32))
    leaves = [x.permute(0, 2, 3, 1).contiguous(), *weights]
    leaves = [t.requires_grad_() for t in leaves]
    only = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(scan_2d, (*leaves, "triton", True), test_utils=only)


@pytest.mark.parametrize("pixels", [1, 35, 192])
def test_a_product_of_each_direction_in_parts(pixels):
    left, right = torch.randn(pixels, 4, 5).double(), torch.randn(pixels, 4, 3).double()
    expected = torch.einsum("pkd,pkr->kdr", left, right)
    torch.testing.assert_close(by_direction(left, right), expected)


@pytest.mark.parametrize(
    ("path", "cc", "hip", "can"),
    [("/bin:/usr/bin", "", None, bool(shutil.which("gcc"))), ("", "", None, False),
     ("", "cc", None, True), ("", "cc", "6.4", False)],
    ids=["compiler", "none", "named", "AMD"],
)  # fmt: skip
def test_a_gpu_alone_does_not_do(monkeypatch, caplog, path, cc, hip, can):
    """Triton compiles what launches its kernels; ours are for NVIDIA's."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("CC", cc)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", hip)
    triton._can_launch.cache_clear()
    with caplog.at_level(logging.WARNING, logger="kmunet.ops"):
        assert [usable(), usable()] == [can, can]
    triton._can_launch.cache_clear()
    assert len(caplog.messages) == (not can and hip is None)
