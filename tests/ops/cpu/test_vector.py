"""exp and softplus of the kernel against float64, in units of float32's precision."""

import torch
import torch.nn.functional as F

EPS = torch.finfo(torch.float32).eps


def relative(found, expected):
    return ((found.double() - expected).abs() / expected).max().item()


def test_exp(kernel):
    x = torch.linspace(-0.34, 0.34, 1 << 16)  # no reduction: the polynomial alone
    assert relative(kernel.exp(x), x.double().exp()) < 2 * EPS
    x = torch.linspace(-80, 20, 1 << 16)
    # The argument is rounded once, as in exp(dt * A).
    error = (kernel.exp(x).double() / x.double().exp() - 1).abs()
    assert (error / (1 + x.abs())).max() < 2 * EPS
    assert torch.equal(kernel.exp(torch.zeros(16)), torch.ones(16))


def test_exp_at_the_ends(kernel):
    assert (kernel.exp(torch.full((16,), -1e4)) <= 2e-38).all()
    assert kernel.exp(torch.full((16,), 1e3)).isinf().all()
    assert kernel.exp(torch.full((16,), torch.nan)).isnan().all()


def test_softplus(kernel):
    x = torch.linspace(-80, 60, 1 << 16)
    expected = F.softplus(x.double(), threshold=700)
    assert relative(kernel.softplus(x), expected) < 3 * EPS
    for nan in (0x7FC00000, 0x7FFFFFFF, -1):  # bits: all of them are no numbers
        x = torch.full((16,), nan, dtype=torch.int32).view(torch.float32)
        assert kernel.softplus(x).isnan().all()
    assert torch.equal(
        kernel.softplus(torch.full((16,), 50.0)), torch.full((16,), 50.0)
    )
