"""A KAN layer as one product against its formula in float64, and what it keeps."""

import pytest
import torch
import torch.nn.functional as F

from kmunet.ops import b_spline_bases, kan_product
from kmunet.ops.cpu import kan as compiled

SIZES = [(1, 1, 1), (7, 5, 4), (70, 16, 3), (3, 33, 20), (40, 300, 4)]


def inputs(rows, features, out, dtype=torch.float64, grid_size=5):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    knots = torch.arange(-3, grid_size + 4, dtype=torch.float64) * 0.4 - 1
    grid = knots * torch.linspace(1, 2, features, dtype=torch.float64)[:, None]
    edges = (out, features)
    weights = (normal(*edges), normal(*edges, grid_size + 3), normal(*edges))
    return [1.5 * normal(rows, features), *weights, grid.to(dtype)]


def formula(x, base, spline, scaler, grid):
    bases = b_spline_bases(x, grid, 3)
    edges = torch.einsum("rik,oik->roi", bases, spline)
    return F.silu(x) @ base.T + (edges * scaler).sum(-1)


def results(function, tensors):
    leaves = [t.clone().requires_grad_() for t in tensors[:4]]
    y = function(*leaves, tensors[4])
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return [y.detach(), *torch.autograd.grad(y, leaves, weight.to(y.dtype))]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients(sizes, dtype):
    truth = results(formula, inputs(*sizes))
    found = results(kan_product, inputs(*sizes, dtype))
    tolerance = 1e-10 if dtype == torch.float64 else 5e-6
    for value, expected in zip(found, truth, strict=True):
        error = (value.double() - expected).abs().max()
        assert error <= tolerance * expected.abs().max().clamp_min(1)


def test_an_empty_batch():
    y, dx, *gradients = results(kan_product, inputs(0, 3, 2, torch.float32))
    assert (y.shape, dx.shape) == ((0, 2), (0, 3))
    assert all((g == 0).all() for g in gradients)


def test_gradcheck():
    *leaves, grid = inputs(6, 3, 2)
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: kan_product(*t, grid), leaves)


def test_without_a_kernel(monkeypatch):
    tensors = inputs(40, 6, 5, torch.float32)
    with_kernel = results(kan_product, tensors)
    monkeypatch.setattr("kmunet.ops.kan.kernel_for", lambda *_: None)
    for a, b in zip(results(kan_product, tensors), with_kernel, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_products(dtype, compiled, monkeypatch):
    """Rounded as factors, so to the places of the dtype; gradients are float32."""
    if not compiled:
        monkeypatch.setattr("kmunet.ops.kan.kernel_for", lambda *_: None)
    truth = results(formula, inputs(70, 300, 9))
    y, *gradients = results(
        lambda *t: kan_product(*t, product_dtype=dtype),
        inputs(70, 300, 9, torch.float32),
    )
    assert y.dtype == dtype
    assert {g.dtype for g in gradients} == {torch.float32}
    for value, expected in zip([y, *gradients], truth, strict=True):
        error = (value.double() - expected).norm() / expected.norm()
        assert 1e-5 < error < torch.finfo(dtype).eps


def test_keeps_its_input_and_weights_alone():
    x, *weights, grid = inputs(50, 6, 5, torch.float32)
    weights = [w.requires_grad_() for w in weights]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.data_ptr()) or t, lambda t: t
    ):
        kan_product(x.requires_grad_(), *weights, grid)
    assert set(kept) == {t.data_ptr() for t in (x, *weights, grid)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_same_bits_for_any_number_of_threads(kernel_or_skip, count):
    x, *_, grid = inputs(500, 20, 1, torch.float32)
    start, step = grid[:, 0].contiguous(), 11 / (grid[:, -1] - grid[:, 0])
    before = torch.get_num_threads()
    found = []
    for threads in (1, count):
        torch.set_num_threads(threads)
        y = compiled.features(kernel_or_skip, x, 0, 9, start, step)
        dx = torch.empty_like(x)
        compiled.add_gradient(kernel_or_skip, dx, x, 0, start, step, y)
        found += [y, dx]
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_far_outside_only_silu_is_left():
    x, *weights, grid = inputs(4, 3, 2, torch.float32)
    far = torch.tensor([[1e6, -1e6, 80.0]])
    expected = F.silu(far) @ weights[0].T
    torch.testing.assert_close(kan_product(far, *weights, grid), expected)
    assert kan_product(x * torch.nan, *weights, grid).isnan().all()


@pytest.fixture
def kernel_or_skip():
    from kmunet.ops.cpu.native import kernel

    if kernel() is None:
        pytest.skip("no C++ compiler on this machine: install g++ or clang++")
    return kernel()
