"""Attention, convolution stages, patch embedding, padding."""

import pytest
import torch
import torch.nn.functional as F

from kmunet.nn import (
    DecoderStage,
    EfficientMultiScaleAttention,
    EncoderStage,
    PatchEmbed,
    pad_to_multiple,
)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (3, 3), (6, 6), (7, 7), (8, 8), (11, 1), (12, 6), (16, 8), (160, 8)],
)
def test_attention_groups_for_any_width(channels, groups):
    attention = EfficientMultiScaleAttention(channels)
    assert attention.groups == groups
    x = torch.randn(2, channels, 5, 3)
    assert attention(x).shape == x.shape


def test_attention_by_hand():
    """One group of two channels, written with loops over nothing but formulas."""
    torch.manual_seed(0)
    attention = EfficientMultiScaleAttention(2, factor=1).double()
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64)
    mix = attention.conv1x1.weight[:, :, 0, 0]
    bias = attention.conv1x1.bias[:, None]
    rows = torch.sigmoid(mix @ x[0].mean(2) + bias)
    columns = torch.sigmoid(mix @ x[0].mean(1) + bias)
    gated = x[0] * rows[:, :, None] * columns[:, None, :]
    mean = gated.mean((1, 2), keepdim=True)
    deviation = (gated.var((1, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
    pooled = (gated - mean) / deviation  # the norm starts as the identity
    local = F.conv2d(x, attention.conv3x3.weight, attention.conv3x3.bias, padding=1)[0]
    score = sum(
        (query.mean((1, 2)).softmax(0)[:, None, None] * value).sum(0)
        for query, value in ((pooled, local), (local, pooled))
    )
    torch.testing.assert_close(attention(x)[0], x[0] * score.sigmoid())


def test_attention_never_mixes_groups():
    torch.manual_seed(0)
    attention = EfficientMultiScaleAttention(16)
    x = torch.randn(1, 16, 4, 4)
    changed = x.clone()
    changed[:, 14:] += 1
    before, after = attention(x), attention(changed)
    torch.testing.assert_close(before[:, :14], after[:, :14])
    assert not torch.allclose(before[:, 14:], after[:, 14:])


@pytest.mark.parametrize("stage", [EncoderStage, DecoderStage])
def test_published_relu_is_redundant(stage):
    """relu(pool(.)) and relu(upsample(.)) as published: same values and gradients."""
    torch.manual_seed(0)
    block = stage(3, 4)
    x = torch.randn(2, 3, 6, 6)
    x[0, :, :3] = 0  # flat areas: many exact zeros and ties after ReLU
    weight = torch.randn(block(x).shape)
    pairs = []
    for finish in (lambda y: y, F.relu):
        block.zero_grad()
        y = finish(block(x))
        (y * weight).sum().backward()
        pairs.append((y.detach(), [p.grad.clone() for p in block.parameters()]))
    assert (pairs[0][0] == 0).any()
    assert torch.equal(pairs[0][0], pairs[1][0])
    assert all(torch.equal(a, b) for a, b in zip(pairs[0][1], pairs[1][1], strict=True))


def test_stages_halve_and_double():
    x = torch.randn(1, 3, 8, 6)
    assert EncoderStage(3, 5)(x).shape == (1, 5, 4, 3)
    assert DecoderStage(3, 5)(x).shape == (1, 5, 16, 12)
    assert PatchEmbed(3, 5)(x).shape == (1, 4, 3, 5)  # a map, channels last


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((1, 1), (32, 32)),
        ((32, 64), (32, 64)),
        ((33, 5), (64, 32)),
        ((31, 97), (32, 128)),
    ],
    ids=str,
)
def test_padding(size, padded):
    x = torch.randn(2, 3, *size)
    out = pad_to_multiple(x, 32)
    assert tuple(out.shape[2:]) == padded
    assert torch.equal(out[..., : size[0], : size[1]], x)
    assert torch.equal(out[..., -1, -1], x[..., -1, -1])
    if size == padded:
        assert out is x
