"""A fused model: the same outputs, nothing of it made at every call."""

import copy

import pytest
import torch
from torch import nn

from kmunet.models import build_model
from kmunet.nn import KANLinear
from kmunet.nn.fused import fuse

NAMES = ["km_unet", "u_kan"]


def trained(name, **options):
    """With statistics and weights that a training could leave."""
    torch.manual_seed(0)
    model = build_model(name, widths=(16, 24, 40), **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.3, 0.5)
            nn.init.uniform_(module.running_var, 0.05, 3.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [(64, 64), (37, 90)], ids=str)
def test_the_same_outputs(name, dtype, size):
    model, x = trained(name), torch.randn(2, 3, *size)
    with torch.inference_mode():
        truth = copy.deepcopy(model).double()(x.double())
        y = fuse(model.to(dtype))(x.to(dtype))
    assert y.dtype == dtype
    error = (y.double() - truth).abs().max() / truth.abs().max()
    assert error < (1e-12 if dtype == torch.float64 else 2e-5)


def test_no_batch_norm_is_left_and_no_gradient():
    model = fuse(trained("km_unet"))
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [p for p in model.parameters() if p.requires_grad]
    assert not model.training


def test_no_weight_of_a_kan_layer_is_made_again(monkeypatch):
    model, x = fuse(trained("km_unet")), torch.randn(1, 3, 32, 32)
    expected = model(x)
    monkeypatch.setattr("kmunet.ops.kan._weight", None)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_kan_layer(kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr("kmunet.ops.kan.kernel", lambda: None)
    layer, x = KANLinear(300, 7), 2 * torch.randn(5, 4, 300)
    with torch.no_grad():
        expected = layer(x)
        fuse(layer)
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
        assert layer(x[:0]).shape == (0, 4, 7)


def test_a_grid_that_is_not_uniform_stays_with_the_recursion():
    layer, x = KANLinear(4, 3), torch.randn(50, 4)
    layer.update_grid(x)
    expected = layer(x)
    assert torch.equal(fuse(layer)(x), expected)


def test_models_of_others_stay_as_they_are():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert isinstance(fuse(plain)[1], nn.BatchNorm2d)


def test_under_autocast():
    model, x = trained("u_kan"), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        fuse(model)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x)
        torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_weights_lie_as_images_do(name):
    """Else each call would lay them out again."""
    model = fuse(trained(name))
    for part in ("encoder3.conv.3", "decoder1.conv.0", "patch_embed3.proj"):
        weight = model.get_submodule(part).weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
