"""Inputs for scans of any size: as a model starts, and the gradients of a result."""

import torch

NAMES = ("y", "u", "delta", "A", "B", "C", "D", "delta_bias")
NAMES_2D = ("y", "x", "x_proj", "dt_proj", "dt_bias", "A_logs", "Ds")


def _normal(dtype):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return normal


def inputs(batch, groups, channels, states, length, dtype=torch.float64):
    """u, delta, A, B, C, D, delta_bias; channels of one group."""
    normal, d = _normal(dtype), groups * channels
    return [
        normal(batch, d, length),
        normal(batch, d, length),
        -normal(d, states).abs(),
        normal(batch, groups, states, length),
        normal(batch, groups, states, length),
        normal(d),
        normal(d),
    ]


def inputs_2d(batch, channels, height, width, states, rank, dtype=torch.float64):
    """Steps of about 0.001 to 0.1, A from -1 to -N."""
    normal = _normal(dtype)
    A = torch.arange(1, states + 1, dtype=dtype).expand(4 * channels, -1)
    return [
        normal(batch, channels, height, width),
        normal(4, rank + 2 * states, channels) * channels**-0.5,
        normal(4, channels, rank) * rank**-0.5,
        normal(4, channels) - 4,
        A.log() + 0.1 * normal(4 * channels, states),
        normal(4 * channels),
    ]


def results(scan, tensors, names):
    """The result and the gradients of a weighted sum of it, by name."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = scan(*leaves)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad(y, leaves, weight.to(y))
    return dict(zip(names, (y.detach(), *found), strict=False))


def assert_same(found, truth, tolerance):
    """The largest error of each as a share of the largest number."""
    for name, expected in truth.items():
        expected = expected.double().cpu()
        scale = expected.abs().max().clamp_min(1e-30)
        error = ((found[name].double().cpu() - expected).abs().max() / scale).item()
        assert error < tolerance, f"{name}: {error:.1e}"
