"""The scans as custom operators: opcheck, compile, export, autocast, data parallel."""

import io
import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch

from kmunet.nn import SS2D
from kmunet.ops import cpu, dispatch, library, selective_scan, use_backend
from kmunet.ops.library import scan, scan_backward
from kmunet.ops.library_2d import scan_2d, scan_2d_backward
from tests.nn.samples import trained
from tests.ops.samples import inputs, inputs_2d

needs_kernel = pytest.mark.skipif(not cpu.usable(), reason="no C++ compiler here")
needs_compiler = pytest.mark.skipif(
    not shutil.which("g++"), reason="torch.compile on a CPU needs g++"
)
NAMES = [pytest.param("cpu", marks=needs_kernel), "chunked"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def softplus_scan(u, delta, A, B, C, D, bias):
    return selective_scan(u, delta, A, B, C, D, delta_bias=bias, delta_softplus=True)


def grad_leaves(tensors):
    return [t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name, keep):
    leaves = grad_leaves(inputs(2, 2, 3, 4, 11, torch.float32))
    torch.library.opcheck(scan, (*leaves, True, name, keep))
    torch.library.opcheck(scan, (*leaves[:5], None, None, False, name, keep))


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_dtypes_and_strides(dtype):
    u, *others = grad_leaves(inputs(2, 2, 3, 4, 11, dtype))
    time_first = u.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0)
    every_other = u.detach().repeat_interleave(2, 2)[..., ::2]
    for x in (u, time_first, every_other):
        x.requires_grad_()
        torch.library.opcheck(scan, (x, *others, True, "auto", True))


@needs_kernel
@pytest.mark.parametrize("keep", [True, False])
def test_opcheck_2d(keep):
    x, *weights = inputs_2d(2, 3, 4, 5, 3, 2, torch.float32)
    pixels = x.permute(0, 2, 3, 1).contiguous()
    for first in (pixels, pixels.bfloat16(), x.permute(0, 2, 3, 1)):
        leaves = grad_leaves([first, *weights])
        torch.library.opcheck(scan_2d, (*leaves, "cpu", keep))


@needs_kernel
def test_opcheck_of_the_backward_operators():
    tensors = inputs(2, 2, 3, 4, 11, torch.float32)
    y, kept = scan(*tensors, True, "cpu", True)
    only = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    arguments = (y, *tensors, kept, True, "cpu")
    torch.library.opcheck(scan_backward, arguments, test_utils=only)
    x, *weights = inputs_2d(2, 3, 4, 5, 3, 2, torch.float32)
    tensors = (x.permute(0, 2, 3, 1).contiguous(), *weights)
    y, proj, kept = scan_2d(*tensors, "cpu", True)
    arguments = (y, *tensors, proj, kept, "cpu")
    torch.library.opcheck(scan_2d_backward, arguments, test_utils=only)


@pytest.mark.parametrize("name", NAMES)
def test_without_kept_states_they_are_computed_again(name):
    leaves = grad_leaves(inputs(2, 2, 3, 4, 33, torch.float32))
    gradients = [
        torch.autograd.grad(scan(*leaves, True, name, keep)[0].sum(), leaves)
        for keep in (True, False)
    ]
    assert all(map(torch.equal, *gradients))


def run(module, x):
    x = x.clone().requires_grad_()
    y = module(x)
    grads = torch.autograd.grad(y.float().square().mean(), [x, *module.parameters()])
    return [y.detach(), *grads]


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        scale = b.abs().max().clamp_min(1e-6)
        assert (a - b).abs().max() / scale < tolerance


@pytest.mark.parametrize(
    "compiler",
    ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, needs_compiler])],
)
def test_compiled_and_the_backend_changed_after(compiler):
    torch.manual_seed(0)
    block, x = SS2D(4), torch.randn(2, 4, 5, 6)
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend=compiler)
    assert_close(run(compiled, x), run(block, x), 1e-5)
    announced = set(dispatch._announced)
    dispatch._announced.clear()
    with use_backend("chunked"):  # traced again
        assert_close(run(compiled, x), run(block, x), 1e-5)
        assert dispatch._announced == {"chunked"}
    dispatch._announced.update(announced)


@pytest.mark.slow
@needs_compiler
def test_compiled_model():
    model = trained("km_unet", (16, 24, 32))
    x = torch.randn(2, 3, 64, 64)
    model(x)
    torch._dynamo.reset()
    expected = run(model, x)
    found = run(torch.compile(model, dynamic=False), x)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
    # Some gradients are zero but for rounding: all by the measure of the largest.
    scale = max(gradient.abs().max() for gradient in expected[1:])
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert (a - b).abs().max() < 1e-4 * scale


def test_exported_with_any_batch_and_trained_on():
    model = trained("km_unet", (16, 24, 32))
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(
        model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=(batch,)
    )
    called = [str(node.target) for node in program.graph.nodes]
    if cpu.usable():
        assert called.count("kmunet.selective_scan_2d.default") == 7
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded, x = torch.export.load(file).module(), torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(loaded(x), model(x))
    loaded(x).sum().backward()
    model(x).sum().backward()
    for name, parameter in model.named_parameters():
        # The exported attention is the plain one: sums in another order.
        tolerance = {"rtol": 1e-4, "atol": 1e-5 * float(parameter.grad.abs().max())}
        found = loaded.get_parameter(name).grad
        torch.testing.assert_close(found, parameter.grad, **tolerance)


@pytest.mark.slow
def test_exported_with_any_size_that_needs_no_padding():
    """Multiples of 32, from 64: what docs/architecture.md says."""
    model = trained("km_unet", (16, 24, 32))
    batch, high, wide = (
        torch.export.Dim(name, min=least, max=64)
        for name, least in (("batch", 1), ("high", 2), ("wide", 2))
    )
    program = torch.export.export(
        model,
        (torch.randn(2, 3, 64, 96),),
        dynamic_shapes=({0: batch, 2: 32 * high, 3: 32 * wide},),
    ).module()
    for size in ((1, 3, 64, 64), (3, 3, 128, 96)):
        x = torch.randn(size)
        torch.testing.assert_close(program(x), model(x))


@needs_kernel
def test_an_exported_program_runs_without_the_kernel(monkeypatch):
    """The version is chosen where it runs; training needs one with kept states."""
    from dataclasses import replace

    x, *weights = inputs_2d(2, 3, 4, 5, 3, 2, torch.float32)
    tensors = grad_leaves([x.permute(0, 2, 3, 1).contiguous(), *weights])
    expected = scan_2d(*tensors, "auto", False)[0]
    kernel = dispatch._registry["cpu"]
    monkeypatch.setitem(
        dispatch._registry, "cpu", replace(kernel, usable=lambda: False)
    )
    y = scan_2d(*tensors, "auto", False)[0]
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="export the model on this machine"):
        y.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_autocast_leaves_states_in_float32(name):
    tensors = [t.bfloat16() for t in inputs(2, 2, 3, 4, 40, torch.float32)]
    with use_backend(name):
        expected = softplus_scan(*tensors)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(softplus_scan(*tensors), expected)
            y = scan(*tensors, True, name, False)[0]  # the operator takes float32
    assert (expected.dtype, y.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(y.bfloat16(), expected)


def test_autocast_over_the_module():
    torch.manual_seed(0)
    block, x = SS2D(4), torch.randn(2, 4, 5, 6)
    expected = run(block, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(block, x)
    assert found[0].dtype == torch.bfloat16
    assert {g.dtype for g in found[1:]} == {torch.float32}
    assert_close([t.float() for t in found], expected, 0.1)


def test_only_the_plain_recursion_has_second_derivatives():
    leaves = grad_leaves(inputs(1, 1, 2, 2, 3, torch.float64))
    with use_backend("naive"):
        assert torch.autograd.gradgradcheck(softplus_scan, leaves)
    with use_backend("chunked"):
        (grad,) = torch.autograd.grad(
            softplus_scan(*leaves).square().sum(), leaves[0], create_graph=True
        )
    with pytest.raises(RuntimeError, match="first derivatives only"):
        grad.sum().backward()


@pytest.mark.parametrize("kind", ["CPU", "CUDA", "MPS", "XPU"])
@pytest.mark.parametrize("name", ["selective_scan", "selective_scan_2d_backward"])
def test_operators_serve_any_device(name, kind):
    has = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    assert has(f"kmunet::{name}", kind)


def test_the_operator_checks_shapes():
    tensors = inputs_2d(1, 3, 2, 4, 2, 1, torch.float32)
    with pytest.raises(ValueError, match="Ds must be"):
        scan_2d(
            tensors[0].permute(0, 2, 3, 1), *tensors[1:5], tensors[5][:3], "auto", 0
        )
    u, delta, A, B, C, D, bias = inputs(1, 1, 2, 2, 3, torch.float32)
    with pytest.raises(ValueError, match="D must be"):
        scan(u, delta, A, B, C, D[:1], bias, True, "auto", False)


def test_the_operator_refuses_a_plain_version():
    tensors = inputs(1, 1, 2, 2, 3, torch.float32)
    with pytest.raises(RuntimeError, match="'naive' runs outside the operator"):
        scan(*tensors, True, "naive", False)


def test_a_version_that_does_not_run_on_the_device():
    with pytest.raises(dispatch.ConfigError, match="'cpu' does not run on cuda"):
        dispatch.resolve("cpu", "cuda")


WORKER = """
import sys, torch, torch.distributed as dist
from kmunet.nn import SS2D
rank, path = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
meet = f"file://{path}/meet"
dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
torch.manual_seed(0)
block, x = SS2D(4), torch.randn(4, 4, 5, 6)
whole = [p.grad for p in block.parameters() if block(x).square().mean().backward() or 1]
whole = [g / len(whole) for g in whole]  # one backward pass for each parameter
block.zero_grad()
parallel = torch.nn.parallel.DistributedDataParallel(block)
parallel(x[2 * rank : 2 * rank + 2]).square().mean().backward()
for p, g in zip(block.parameters(), whole):
    torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-6)
dist.destroy_process_group()
"""


def test_data_parallel_gives_the_gradients_of_one_process(tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors


def test_kept_states_are_asked_for_only_where_a_backward_pass_may_follow():
    a, b = torch.zeros(1), torch.zeros(1, requires_grad=True)
    assert library.keeps(a, b, None)
    assert not library.keeps(a, None)
    with torch.no_grad():
        assert not library.keeps(a, b)


def test_the_note_of_a_version_is_in_the_log(caplog, monkeypatch):
    from dataclasses import replace

    noted = replace(dispatch._registry["naive"], name="noted", note="slow")
    monkeypatch.setitem(dispatch._registry, "noted", noted)
    with caplog.at_level(logging.INFO, logger="kmunet.ops"):
        dispatch.name_for("noted", "cpu", False)
    assert caplog.messages == ["selective scan: noted on cpu (slow)"]


def test_the_compiler_is_not_imported_for_an_ordinary_step():
    code = """
import sys, torch
from kmunet.nn import SS2D
SS2D(2)(torch.randn(1, 2, 3, 3)).sum().backward()
print([n for n in ("torch._dynamo", "triton", "mamba_ssm") if n in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
