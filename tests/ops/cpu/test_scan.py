"""The one-dimensional scan on the kernel against the naive recursion in float64."""

import pytest
import torch

from kmunet.ops import naive
from kmunet.ops.cpu import selective_scan, usable
from kmunet.ops.cpu.scan import scan_with

NAMES = ("y", "u", "delta", "A", "B", "C", "D", "delta_bias")
# batch, groups, channels of a group, states, length
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 1, 4, 3, 17),
    (1, 2, 3, 5, 33),
    (3, 4, 5, 2, 1),
    (2, 4, 8, 16, 100),
    (5, 3, 7, 11, 13),
    (1, 1, 2, 16, 2000),
]


def inputs(batch, groups, channels, states, length):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    d = groups * channels
    return [
        normal(batch, d, length),
        normal(batch, d, length),
        -normal(d, states).abs(),
        normal(batch, groups, states, length),
        normal(batch, groups, states, length),
        normal(d),
        normal(d),
    ]


def results(scan, tensors, softplus):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = scan(*leaves, delta_softplus=softplus)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(y, leaves, weight.to(y.dtype))
    return dict(zip(NAMES, (y.detach(), *found), strict=False))


def assert_close(found, expected, tolerance=5e-6):
    for name, value in expected.items():
        scale = value.abs().max().clamp_min(1e-30)
        error = ((found[name].double() - value).abs().max() / scale).item()
        assert error < tolerance, f"{name}: {error:.1e}"


def compare(kernel, tensors, softplus, tolerance=5e-6):
    truth = results(naive.selective_scan, [t.double() for t in tensors], softplus)
    found = results(lambda *t, **k: scan_with(kernel, *t, **k), tensors, softplus)
    assert_close(found, truth, tolerance)


@pytest.mark.parametrize("softplus", [True, False], ids=["softplus", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_values_and_gradients(kernel, shape, softplus):
    tensors = inputs(*shape)
    if not softplus:  # steps are then positive as they are
        tensors[1], tensors[6] = tensors[1].abs(), tensors[6].abs()
    compare(kernel, tensors, softplus)


@pytest.mark.parametrize("count", [5, 6])
def test_optional_arguments(kernel, count):
    compare(kernel, inputs(2, 2, 4, 3, 40)[:count], True)


def test_growing_states(kernel):
    """A above 0 is allowed by the operator."""
    tensors = inputs(1, 1, 3, 4, 30)
    tensors[2] = 0.1 * tensors[2].abs()
    compare(kernel, tensors, True)


def test_ungrouped_b_and_c(kernel):
    u, delta, A, B, C, *_ = inputs(2, 1, 4, 3, 9)
    expected = scan_with(kernel, u, delta, A, B, C)
    assert torch.equal(scan_with(kernel, u, delta, A, B[:, 0], C[:, 0]), expected)


@pytest.mark.skipif(not usable(), reason="no C++ compiler: install g++ or clang++")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    tensors = [t.to(dtype) for t in inputs(2, 2, 4, 3, 50)]
    found = results(selective_scan, tensors, True)
    assert {value.dtype for value in found.values()} == {dtype}
    double = [t.double() for t in tensors]
    truth = naive.selective_scan(*double, delta_softplus=True)
    precision = {torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 1e-2}
    assert_close(found, {"y": truth}, precision[dtype])


def test_shapes_that_do_not_fit(kernel):
    u, delta, A, B, C, *_ = inputs(2, 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"delta .* must be as u"):
        scan_with(kernel, u, delta[..., 1:], A, B, C)
