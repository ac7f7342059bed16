"""A fused model: the same outputs, nothing of it made at every call."""

import copy

import pytest
import torch
from torch import nn

from kmunet.nn import KANLinear
from kmunet.nn.fused import fuse
from tests.nn.samples import trained

NAMES = ["km_unet", "u_kan"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [(64, 64), (37, 90)], ids=str)
def test_the_same_outputs(name, dtype, size):
    model, x = trained(name), torch.randn(2, 3, *size)
    with torch.inference_mode():
        truth = copy.deepcopy(model).double()(x.double())
        y = fuse(model.to(dtype))(x.to(dtype))
    assert y.dtype == dtype
    assert (truth[0] - truth[1]).abs().max() > 0.05 * truth.abs().max()  # of the image
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
        monkeypatch.setattr("kmunet.ops.kan.kernel_for", lambda *_: None)
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [KANLinear, nn.Conv2d], ids=["KAN", "convolutions"])
def test_outputs_depend_on_what_is_fused(name, kind):
    """Else they would be the same with any fused weights."""
    model, x = trained(name), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(x)
        for module in model.modules():
            if isinstance(module, kind):
                for parameter in module.parameters():
                    parameter.mul_(1.5)
        found = model(x)
    assert (found - expected).abs().max() > 1e-3 * expected.abs().max()


def test_gradients_of_the_image_are_those_before():
    """Of a map of what a decision depends on, for one."""
    model, x = trained("u_kan").double().float(), torch.randn(1, 3, 32, 32)
    gradients = []
    for each in (model, fuse(copy.deepcopy(model))):
        leaf = x.clone().requires_grad_()
        gradients += torch.autograd.grad(each(leaf).sum(), leaf)
    expected, found = gradients
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("change", ["load", "grid", "reset"])
def test_other_weights_are_taken(change):
    torch.manual_seed(0)
    layer, other, x = KANLinear(5, 4), KANLinear(5, 4), torch.randn(20, 5)
    fused = fuse(copy.deepcopy(layer))
    for each in (layer, fused):
        torch.manual_seed(1)
        if change == "load":
            each.load_state_dict(other.state_dict())
        elif change == "grid":
            each.update_grid(2 * x, uniform=1.0)
        else:
            each.reset_parameters()
    with torch.no_grad():
        assert torch.equal(fused(x), layer(x))
