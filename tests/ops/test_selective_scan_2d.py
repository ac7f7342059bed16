"""The four-direction scan against each direction written out pixel by pixel."""

import pytest
import torch
import torch.nn.functional as F

from kmunet.ops import selective_scan_2d, use_backend


def parameters(channels, states=3, rank=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return [
        normal(4, rank + 2 * states, channels),
        normal(4, channels, rank),
        normal(4, channels),
        normal(4 * channels, states),
        normal(4 * channels),
    ]


def paths(height, width):
    """Pixels in the order in which each direction visits them."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return rows, columns, rows[::-1], columns[::-1]


def plain(x, x_proj, dt_proj, dt_bias, A_logs, Ds):
    """One image after the other, one pixel after the other."""
    (_, channels, height, width), rank = x.shape, dt_proj.shape[2]
    states = A_logs.shape[1]
    out = torch.zeros_like(x)
    for image, y in zip(x, out, strict=True):
        for k, path in enumerate(paths(height, width)):
            own = slice(k * channels, (k + 1) * channels)
            A, state = -A_logs[own].exp(), torch.zeros(channels, states).to(x)
            for i, j in path:
                pixel = image[:, i, j]
                dt, B, C = (x_proj[k] @ pixel).split([rank, states, states])
                dt = F.softplus(dt_proj[k] @ dt + dt_bias[k])
                decay = torch.exp(dt[:, None] * A)
                state = decay * state + (dt * pixel)[:, None] * B
                y[:, i, j] = y[:, i, j] + state @ C + Ds[own] * pixel
    return out


def image(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", ["naive", "chunked"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 4, 5), (1, 4, 1, 7), (2, 2, 6, 1)], ids=str
)
def test_against_the_plain_walk(shape, name):
    x, weights = image(*shape), parameters(shape[1])
    with use_backend(name):
        found = selective_scan_2d(x, *weights)
    torch.testing.assert_close(found, plain(x, *weights), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["naive", "chunked"])
def test_gradcheck(name):
    leaves = [image(1, 2, 3, 2), *parameters(2, states=2, rank=1)]
    with use_backend(name):
        assert torch.autograd.gradcheck(
            selective_scan_2d, tuple(t.requires_grad_() for t in leaves)
        )


def test_every_direction_counts():
    x, weights = image(1, 2, 4, 4), parameters(2)
    whole = selective_scan_2d(x, *weights)
    for k in range(4):
        changed = [w.clone() for w in weights]
        changed[4][2 * k : 2 * k + 2] += 1  # the skip D of one direction
        difference = selective_scan_2d(x, *changed) - whole
        torch.testing.assert_close(difference, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_input_is_scanned_in_float32(dtype):
    x, weights = image(1, 4, 5, 3).to(dtype), parameters(4, dtype=torch.float32)
    found = selective_scan_2d(x, *weights)
    assert torch.equal(found, selective_scan_2d(x.float(), *weights))


def test_autocast_does_not_reach_the_scan():
    x, weights = image(1, 4, 5, 3).float(), parameters(4, dtype=torch.float32)
    expected = selective_scan_2d(x, *weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(selective_scan_2d(x, *weights), expected)


def test_channels_last_input():
    x, weights = image(2, 4, 5, 3), parameters(4)
    expected = selective_scan_2d(x, *weights)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(selective_scan_2d(last, *weights), expected)
