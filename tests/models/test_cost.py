"""FLOPs: by hand where a hand can count them, the same whichever scan runs."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kmunet.models import build_model
from kmunet.models.cost import attention_flops, flops, parameter_count, ss2d_flops
from kmunet.nn import SS2D, EfficientMultiScaleAttention, KANLinear
from kmunet.ops import use_backend


class Pixels(nn.Module):
    """A KAN layer on each pixel."""

    def __init__(self):
        super().__init__()
        self.layer = KANLinear(3, 5)

    def forward(self, x):
        return self.layer(x.permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 16 * 16 * 8 * 2 * 27),
        (Pixels(), 16 * 16 * 5 * 2 * 3 * 9),  # SiLU and 8 bases
    ],
    ids=["convolution", "KAN"],
)
def test_by_hand(model, expected):
    assert flops(model, 16) == expected
    assert model.training


def test_a_scan_counts_its_products_and_nine_operations_a_state():
    """The products are what torch counts in the composed version."""
    block, image = SS2D(32), torch.zeros(1, 32, 8, 8)
    counter = FlopCounterMode(display=False)
    with use_backend("naive"), torch.no_grad(), counter:
        block(image)
    scans = 4 * 64 * 64 * (9 * 16 + 1)  # directions, channels, pixels
    assert ss2d_flops(block, 8, 8) == counter.get_total_flops() + scans


def test_an_attention_counts_as_in_torchs_operations():
    block, image = EfficientMultiScaleAttention(32), torch.zeros(1, 32, 8, 12)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        block.plain(image)
    assert attention_flops(block, 8, 12) == counter.get_total_flops()
    alone = nn.Sequential(nn.Conv2d(3, 32, 1), block)
    assert flops(alone, 16) == 256 * 2 * 3 * 32 + attention_flops(block, 16, 16)


@pytest.mark.parametrize("scan", ["auto", "chunked"])
def test_of_a_network_they_do_not_depend_on_the_scan(scan):
    model = build_model("km_unet", widths=(16, 6, 10))
    with use_backend("naive"):
        expected = flops(model, 32)
    with use_backend(scan):
        assert flops(model, 32) == expected
        assert flops(model, 64) == pytest.approx(4 * expected, rel=1e-3)  # pixels
    without = build_model("km_unet", widths=(16, 6, 10), ss2d=False)
    blocks = [m for m in model.modules() if isinstance(m, SS2D)]
    assert len(blocks) == 7
    assert flops(without, 32) < expected - 7 * min(ss2d_flops(b, 2, 2) for b in blocks)


def test_parameters_that_do_not_learn_are_not_counted():
    model = nn.Linear(3, 4)
    model.bias.requires_grad_(False)
    assert parameter_count(model) == 12
