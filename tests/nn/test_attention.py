"""Which version of attention runs where, and that all agree."""

import shutil

import pytest
import torch
import torch.nn.utils.prune

from kmunet.nn import EfficientMultiScaleAttention
from kmunet.ops.cpu import usable
from kmunet.ops.cpu.compiler import COMPILERS

needs_kernel = pytest.mark.skipif(
    not usable(), reason="no C++ compiler on this machine: install g++ or clang++"
)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return EfficientMultiScaleAttention(16)


@pytest.fixture
def image():
    x = torch.randn(2, 16, 7, 5, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def test_the_plain_version_has_right_gradients():
    torch.manual_seed(0)
    layer = EfficientMultiScaleAttention(4, factor=2).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def function(x, *weights):
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, given, (x,))

    assert torch.autograd.gradcheck(function, (x, *weights))


@needs_kernel
def test_the_kernel_runs_in_float32_alone(layer, image, monkeypatch):
    def used(*_):
        raise LookupError

    assert torch.allclose(layer(image), layer.plain(image), atol=1e-6)
    monkeypatch.setattr("kmunet.nn.attention.attend", used)
    with pytest.raises(LookupError):
        layer(image)
    layer(image[:0])
    layer.double()(image.double())
    layer.bfloat16()(image.bfloat16())
    layer.float()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    layer(image)


def test_elsewhere_it_is_torch(layer, image, monkeypatch):
    monkeypatch.setattr("kmunet.nn.attention.kernel_for", lambda *_: None)
    assert torch.equal(layer(image), layer.plain(image))


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
def test_autocast_gives_the_dtype_of_the_image(layer, image, first):
    x = image.to(first).requires_grad_()
    truth = layer(image.to(first).float())
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = layer(x), layer.plain(x)
    assert y.dtype == expected.dtype == first
    torch.testing.assert_close(y.float(), truth, rtol=1e-2, atol=1e-2)
    y.float().sum().backward()
    assert x.grad.dtype == first
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


@needs_kernel
def test_frozen_weights_and_inference(layer, image):
    expected = layer(image)
    with torch.inference_mode():
        assert torch.equal(layer(image), expected)
    layer.requires_grad_(False)
    x = image.clone().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in layer.parameters())


def test_float32_whatever_the_default_is(layer, image):
    torch.set_default_dtype(torch.float64)
    try:
        assert layer(image).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="torch.compile needs a C++ compiler"
)
@pytest.mark.parametrize("channels", [4, 16])  # one and two channels a group
def test_compiled_gradients(channels):
    torch.manual_seed(0)
    plain = EfficientMultiScaleAttention(channels).double()
    x = torch.randn(2, channels, 8, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    torch._dynamo.reset()
    found, expected = (
        torch.autograd.grad(model(x), [x, *plain.parameters()], weight)
        for model in (torch.compile(plain), plain)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@needs_kernel
def test_weights_are_found_by_name(layer, image):
    """Pruning and the like move parameters about."""
    expected = layer(image)
    torch.nn.utils.prune.identity(layer.conv3x3, "weight")
    assert torch.equal(layer(image), expected)
