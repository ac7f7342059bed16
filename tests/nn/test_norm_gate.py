"""Layer norm times SiLU in one pass: torch's values and gradients, what is kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kmunet.nn.norm import norm_gate
from kmunet.ops.cpu import usable

SHAPES = [(1, 1, 1, 16), (2, 3, 5, 32), (700, 20), (3, 4, 320), (2, 2, 6, 5), (4, 17)]
needs_kernel = pytest.mark.skipif(
    not usable(), reason="no C++ compiler on this machine: install g++ or clang++"
)


def inputs(shape):
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.randn(shape, generator=generator) for _ in range(2))
    norm = nn.LayerNorm(shape[-1])
    for p in norm.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    return 2 * y + 3, 4 * z, norm


def results(function, y, z, norm):
    leaves = [t.clone().requires_grad_() for t in (y, z)]
    out = function(*leaves, norm)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    sources = [*leaves, *norm.parameters()]
    return [out.detach(), *torch.autograd.grad(out, sources, weight.to(out.dtype))]


def plain(y, z, norm):
    return norm(y) * F.silu(z)


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_float64(shape):
    y, z, norm = inputs(shape)
    found = results(norm_gate, y, z, norm)
    truth = results(plain, y.double(), z.double(), norm.double())
    for value, expected in zip(found, truth, strict=True):
        error = (value.double() - expected).abs().max()
        assert error < 3e-6 * expected.abs().max().clamp_min(1)


@needs_kernel
def test_the_same_bits_for_any_number_of_threads():
    given, found, before = inputs((900, 24)), [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(results(norm_gate, *given))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_kernel
def test_keeps_its_inputs_alone():
    y, z, norm = inputs((5, 16))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.data_ptr()) or t, lambda t: t
    ):
        norm_gate(y.requires_grad_(), z.requires_grad_(), norm)
    assert set(kept) == {t.data_ptr() for t in (y, z, norm.weight, norm.bias)}


def test_parts_of_tensors_and_float64():
    y, z, norm = inputs((3, 4, 10))
    torch.testing.assert_close(
        norm_gate(y.transpose(0, 1), z.transpose(0, 1), norm).transpose(0, 1),
        plain(y, z, norm),
    )
    y, z, norm = y.double(), z.double(), norm.double()
    assert torch.equal(norm_gate(y, z, norm), plain(y, z, norm))
