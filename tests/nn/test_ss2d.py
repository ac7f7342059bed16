"""SS2D: shape, initial values, what it sees, and its gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from kmunet.nn import SS2D


@pytest.mark.parametrize(("channels", "rank"), [(1, 1), (16, 1), (17, 2), (160, 10)])
def test_parameters_as_published(channels, rank):
    inner = 2 * channels
    shapes = {name: tuple(t.shape) for name, t in SS2D(channels).state_dict().items()}
    assert shapes == {
        "x_proj_weight": (4, rank + 32, inner),
        "dt_projs_weight": (4, inner, rank),
        "dt_projs_bias": (4, inner),
        "A_logs": (4 * inner, 16),
        "Ds": (4 * inner,),
        "in_proj.weight": (2 * inner, channels),
        "conv2d.weight": (inner, 1, 3, 3),
        "conv2d.bias": (inner,),
        "out_norm.weight": (inner,),
        "out_norm.bias": (inner,),
        "out_proj.weight": (channels, inner),
    }


def test_initial_values():
    torch.manual_seed(0)
    block = SS2D(32)
    expected = torch.arange(1.0, 17.0).expand(256, 16)
    torch.testing.assert_close(block.A_logs.exp(), expected)
    assert torch.equal(block.Ds, torch.ones(256))
    dt = F.softplus(block.dt_projs_bias)
    assert 1e-3 * 0.99 < dt.min() < 3e-3
    assert 3e-2 < dt.max() < 1e-1 * 1.01
    assert block.x_proj_weight.abs().max() <= 1 / math.sqrt(64)
    assert block.dt_projs_weight.abs().max() <= 1 / math.sqrt(2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 4), (8, 2)], ids=str)
def test_any_size(size):
    x = torch.randn(2, 6, *size)
    assert SS2D(6)(x).shape == x.shape


def test_every_pixel_sees_every_other():
    torch.manual_seed(0)
    block, x = SS2D(4), torch.randn(1, 4, 9, 7, requires_grad=True)
    for row, column in ((0, 0), (8, 6), (4, 3)):
        (grad,) = torch.autograd.grad(block(x)[0, :, row, column].sum(), x)
        assert (grad.abs().sum(1) > 0).all()


def test_turning_the_image_turns_nothing_but_directions():
    """A transposed image with rows and columns swapped gives the transposed result."""
    torch.manual_seed(0)
    block, other = SS2D(4), SS2D(4)
    state = block.state_dict()
    swap = [1, 0, 3, 2]
    for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias"):
        state[name] = state[name][swap]
    for name in ("A_logs", "Ds"):
        state[name] = state[name].unflatten(0, (4, -1))[swap].flatten(0, 1)
    state["conv2d.weight"] = state["conv2d.weight"].transpose(2, 3)
    other.load_state_dict(state)
    x = torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(other(x.mT), block(x).mT, rtol=1e-4, atol=1e-6)


def test_gradients_are_right():
    torch.manual_seed(0)
    block = SS2D(2, states=2).double()
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_numbers(dtype):
    """Not autocast: its weights have few digits too. States are float32 still."""
    torch.manual_seed(0)
    block, x = SS2D(8), torch.randn(1, 8, 5, 6)
    expected, found = block(x), block.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - expected).norm() < 0.05 * expected.norm()
