"""Batch norm with ReLU in one pass: values, gradients, running statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kmunet.nn.norm import norm_relu
from kmunet.ops.cpu import usable

SHAPES = [(2, 16, 8, 8), (3, 5, 7, 6), (1, 33, 1, 2), (2, 48, 40, 17), (600, 2, 1, 1)]
needs_kernel = pytest.mark.skipif(
    not usable(), reason="no C++ compiler on this machine: install g++ or clang++"
)


def image(shape, dtype=torch.float32, offset=1.0):
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + offset
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def layer(channels, **options):
    norm = nn.BatchNorm2d(channels, **options)
    generator = torch.Generator().manual_seed(1)
    for p in norm.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    return norm


def results(function, x, norm):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x, norm)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad(y, [x, *norm.parameters()], weight.to(y.dtype))
    return [y.detach(), *found, *(b.to(y) for b in norm.buffers())]


def plain(x, norm):
    return F.relu(norm(x))


@needs_kernel
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_float64(shape, momentum):
    norm = layer(shape[1], momentum=momentum)
    x = image(shape)
    truth = results(plain, x.double(), copy.deepcopy(norm).double())
    found = results(norm_relu, x, norm)
    for value, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=2e-5)


@needs_kernel
def test_more_exact_than_torch_where_pixels_are_many():
    x, norm = image((8, 16, 160, 160), offset=3.0), layer(16)
    truth = results(plain, x.double(), copy.deepcopy(norm).double())
    errors = [
        [(a.double() - b).norm() / b.norm() for a, b in zip(r, truth, strict=True)]
        for r in (results(f, x, copy.deepcopy(norm)) for f in (norm_relu, plain))
    ]
    assert max(errors[0]) < 1e-6
    assert all(own < other / 10 for own, other in zip(*errors, strict=True) if other)


@needs_kernel
def test_the_same_bits_for_any_number_of_threads():
    x, found, before = image((3, 20, 30, 31)), [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(results(norm_relu, x, layer(20)))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_elsewhere_it_is_torch():
    for change in ("eval", "order", "float64"):
        norm, x = layer(6), image((2, 6, 5, 4))
        if change == "eval":
            norm.eval()
        elif change == "order":
            x = x.contiguous()
        else:
            norm, x = norm.double(), x.double()
        expected = results(plain, x, copy.deepcopy(norm))
        found = results(norm_relu, x, norm)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_as_exact_without_a_kernel(monkeypatch):
    monkeypatch.setattr("kmunet.nn.norm.kernel_for", lambda *_: None)
    x, norm = image((8, 16, 160, 160), offset=3.0), layer(16)
    truth = results(plain, x.double(), copy.deepcopy(norm).double())
    for value, expected in zip(results(norm_relu, x, norm), truth, strict=True):
        assert (value.double() - expected).norm() < 1e-6 * expected.norm().clamp_min(1)


def test_one_pixel_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_relu(image((1, 4, 1, 1)), layer(4))


def test_what_is_not_a_number_is_not_hidden():
    x = image((2, 4, 3, 3))
    x[0, 1, 2, 2] = torch.nan
    y = norm_relu(x, layer(4))
    assert y[:, 1].isnan().all()
    assert not y[:, 0].isnan().any()
