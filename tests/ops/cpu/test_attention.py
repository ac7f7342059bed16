"""Attention on every build of the kernel: values, gradients, memory, dtypes."""

import pytest
import torch

from kmunet.nn import EfficientMultiScaleAttention
from kmunet.ops.attention import attend

SHAPES = [
    *((1, 2, 4, 3), (2, 3, 1, 5), (1, 12, 6, 2), (3, 11, 4, 9), (2, 16, 5, 8)),
    *((1, 33, 37, 70), (2, 160, 6, 7), (2, 32, 40, 17), (1, 1, 3, 1), (1, 24, 2, 2)),
]


def module(channels):
    """With weights far enough from their start that every part of it matters."""
    torch.manual_seed(1)
    found = EfficientMultiScaleAttention(channels)
    for p in found.parameters():
        p.data += 0.3 * torch.randn(p.shape)
    return found


def image(shape, dtype=torch.float32, offset=0.5):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + offset
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def results(function, module, x):
    """Output and all gradients; `function` of module and image."""
    x = x.detach().requires_grad_()
    y = function(module, x)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    grads = torch.autograd.grad(y, [x, *module.parameters()], weight.to(y.dtype))
    return [y.detach(), *grads]


def plain(module, x):
    return module.plain(x)


def on(kernel):
    return lambda module, x: attend(kernel, x, module.weights(), module.gn.eps)


def assert_near(found, truth, tolerance):
    """To a share of the whole tensor: single numbers may cancel."""
    for value, expected in zip(found, truth, strict=True):
        error = (value.double() - expected).abs().max()
        assert error < tolerance * expected.abs().max().clamp_min(1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_float64(kernel, shape):
    """The gradient of the 3x3 bias cancels: torch is 9e-6 off, more on some CPUs."""
    layer, x = module(shape[1]), image(shape)
    found, torchs = (results(f, layer, x) for f in (on(kernel), plain))
    truth = results(plain, layer.double(), x.double())
    for value, other, expected in zip(found, torchs, truth, strict=True):
        error, peer = ((t.double() - expected).abs().max() for t in (value, other))
        assert error < max(2 * peer, 1e-5 * expected.abs().max().clamp_min(1))


def test_one_pixel(kernel):
    """The norm of one number is its bias: what moves it has no gradient."""
    layer, x = module(6), image((3, 6, 1, 1))
    found = results(on(kernel), layer, x)
    assert_near(found, results(plain, layer.double(), x.double()), 1e-5)


@pytest.mark.parametrize(("size", "offset"), [((64, 64), 30), ((160, 256), 0.5)])
def test_as_exact_as_torch(kernel, size, offset):
    """With a mean far from 0, and over many pixels."""
    layer, x = module(16), image((1, 16, *size), offset=offset)
    found, torchs = (results(f, layer, x) for f in (on(kernel), plain))
    truth = results(plain, layer.double(), x.double())
    for value, other, expected in zip(found, torchs, truth, strict=True):
        error, peer = ((t.double() - expected).norm() for t in (value, other))
        assert error < max(2 * peer, 3e-5 * expected.norm())


def test_the_same_bits_again_and_outputs_for_any_number_of_threads(kernel, threads):
    layer, x, found = module(20), image((3, 20, 70, 61)), []
    for count in (1, 2, 3, 3):
        threads(count)
        found.append(results(on(kernel), layer, x))
    assert all(torch.equal(found[0][0], other[0]) for other in found)
    assert all(torch.equal(a, b) for a, b in zip(found[2], found[3], strict=True))


def test_nothing_is_read_before_it_is_written(kernel, monkeypatch):
    layer, x = module(12), image((2, 12, 5, 7))
    expected = results(on(kernel), layer, x)

    def poisoned(make):
        return lambda *a, **k: make(*a, **k).fill_(torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    found = results(on(kernel), layer, x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_any_strides(kernel):
    layer, x = module(8), image((2, 8, 6, 5))
    expected = results(on(kernel), layer, x)
    wide = torch.zeros(2, 9, 6, 10)
    wide[:, 1:, :, ::2] = x
    for same in (x.contiguous(), wide[:, 1:, :, ::2]):
        found = results(on(kernel), layer, same)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    y = on(kernel)(layer, x.requires_grad_())  # a gradient of stride 0
    (grad,) = torch.autograd.grad(y.sum(), x)
    truth = plain(layer.double(), x.double()).sum()
    torch.testing.assert_close(grad, torch.autograd.grad(truth, x)[0])


@pytest.mark.parametrize("channels", [8, 12, 48])
def test_bfloat16_images(kernel, channels):
    """The image is rounded, nothing else: as far from the truth as one rounding."""
    layer, x = module(channels), image((2, channels, 9, 7), torch.bfloat16)
    y, dx, *others = results(on(kernel), layer, x)
    truth = results(plain, layer.double(), x.double())
    assert y.dtype == dx.dtype == torch.bfloat16
    assert_near([y, dx], truth[:2], 2**-7)
    torch.testing.assert_close(y, truth[0].bfloat16(), rtol=2**-7, atol=0)
    assert {other.dtype for other in others} == {torch.float32}
    assert_near(others, truth[2:], 2e-2)  # the gradient they come from is rounded too


def test_not_a_number_stays_in_its_image_and_group(kernel):
    layer, x = module(16), image((2, 16, 4, 4))
    x[1, 5, 2, 2] = torch.nan
    with torch.no_grad():
        y = on(kernel)(layer, x)
    assert y[1, 4:6].isnan().all()
    y[1, 4:6] = 0
    assert y.isfinite().all()


def test_half_keeps_what_is_not_finite(kernel):
    layer, x = module(8), image((1, 8, 3, 3), torch.bfloat16)
    x[0, 2, 1, 1] = torch.nan
    with torch.no_grad():
        y = on(kernel)(layer, x)
    assert y[0, 2].isnan().all()
    assert y[0, :2].isfinite().all()


def test_keeps_the_image_and_a_number_a_group(kernel):
    layer, x = module(32), image((2, 32, 16, 16)).requires_grad_()
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        on(kernel)(layer, x)
    assert kept.pop(x.data_ptr()) == x.numel()
    small = 2 * 32 * (16 + 16 + 4 + 2) + sum(p.numel() for p in layer.parameters())
    assert sum(kept.values()) == x.numel() // 4 + small


def test_no_second_derivatives_by_mistake(kernel):
    layer, x = module(4), image((1, 4, 3, 3)).requires_grad_()
    y = on(kernel)(layer, x).square().sum()
    (grad,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
