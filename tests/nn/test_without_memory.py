"""Tensors whose memory no kernel can read: they take torch's operations."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from kmunet.models import build_model
from kmunet.nn import SS2D, EfficientMultiScaleAttention, KANLinear
from kmunet.nn.norm import norm_relu
from kmunet.ops.cpu import kernel_for, usable


class NormReLU(nn.BatchNorm2d):
    """In training, channels last."""

    def forward(self, x):
        plain = nn.BatchNorm2d(self.num_features)
        return norm_relu(x.contiguous(memory_format=torch.channels_last), plain)


LAYERS = {
    "SS2D": lambda: SS2D(8),
    "attention": lambda: EfficientMultiScaleAttention(8),
    "norm": lambda: NormReLU(8),
    "KAN": lambda: nn.Sequential(nn.Flatten(2), KANLinear(30, 4)),
    "model": lambda: build_model("km_unet", in_channels=8, widths=(16, 24, 32)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_fake_tensors_know_shapes_alone(layer):
    x = torch.randn(2, 8, 6, 5)
    expected = layer()(x).shape
    with FakeTensorMode():
        assert layer()(torch.randn(2, 8, 6, 5)).shape == expected


def test_a_subclass_gives_what_its_parts_give():
    torch.manual_seed(0)
    layer, x = KANLinear(5, 4), torch.randn(3, 5)
    with torch.no_grad():
        both = layer(TwoTensor(x, 2 * x))
        torch.testing.assert_close(both.a, layer(x))
        torch.testing.assert_close(both.b, layer(2 * x))


@pytest.mark.skipif(not usable(), reason="no C++ compiler here")
def test_tensors_of_torch_itself_have_the_kernel():
    assert kernel_for(torch.zeros(1), nn.Parameter(torch.zeros(1)), None) is not None
    assert kernel_for(TwoTensor(torch.zeros(1), torch.zeros(1))) is None
