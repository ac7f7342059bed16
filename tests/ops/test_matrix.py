"""`linear` is F.linear, whichever library multiplies."""

import pytest
import torch
import torch.nn.functional as F

from kmunet.ops import matrix
from kmunet.ops.matrix import linear, linear_gradients


@pytest.fixture(params=["convolution", "product"], autouse=True)
def library(request, monkeypatch):
    """Both ways, whatever this machine would choose."""
    chosen = request.param == "convolution"
    monkeypatch.setattr(matrix, "CONVOLVED", chosen)
    return request.param


def inputs(shape, out, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, (out, shape[-1]), (*shape[:-1], out), (out,))
    return [torch.randn(s, generator=generator).to(dtype) for s in sizes]


@pytest.mark.parametrize("shape", [(5,), (7, 3), (2, 3, 4, 33), (0, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_against_float64(shape, dtype):
    x, weight, _, bias = inputs(shape, 9, dtype)
    truth = F.linear(x.double(), weight.double(), bias.double())
    found = linear(x, weight, bias)
    assert found.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        found.double(), truth, rtol=tolerance, atol=5 * tolerance
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients(dtype):
    x, weight, grad, _ = inputs((2, 5, 12), 7, dtype)
    truth = [t.double().requires_grad_() for t in (x, weight)]
    expected = torch.autograd.grad(F.linear(*truth), truth, grad.double())
    leaves = [t.clone().requires_grad_() for t in (x, weight)]
    through = torch.autograd.grad(linear(*leaves), leaves, grad)
    for found in (linear_gradients(x, weight, grad), through):
        for value, true in zip(found, expected, strict=True):
            torch.testing.assert_close(value.double(), true, rtol=1e-5, atol=1e-5)


def test_gradients_of_an_empty_batch():
    x, weight, grad, _ = inputs((0, 5, 12), 7)
    dx, d_weight = linear_gradients(x, weight, grad)
    assert dx.shape == x.shape
    assert torch.equal(d_weight, torch.zeros(7, 12))


def test_parts_of_a_tensor():
    x, weight, _, _ = inputs((2, 3, 4, 10), 6)
    torch.testing.assert_close(
        linear(x[..., :5], weight[:, 5:]), F.linear(x[..., :5], weight[:, 5:])
    )
    torch.testing.assert_close(
        linear(x.transpose(1, 2), weight), F.linear(x.transpose(1, 2), weight)
    )


def test_exports():
    x, weight, _, _ = inputs((2, 3, 8), 4)

    class Product(torch.nn.Module):
        def forward(self, x):
            return linear(x, weight)

    exported = torch.export.export(Product(), (x,)).module()
    torch.testing.assert_close(exported(x), F.linear(x, weight))


def test_the_choice_is_made(library, monkeypatch):
    taken = []
    monkeypatch.setattr(
        F, "conv2d", lambda *_: taken.append("convolution") or torch.ones(1, 7, 1, 5)
    )
    monkeypatch.setattr(F, "linear", lambda *_: taken.append("product"))
    linear(torch.ones(5, 3), torch.ones(7, 3))
    assert taken == [library]


@pytest.mark.parametrize(
    ("processor", "instructions", "mkl", "expected"),
    [
        ("vendor_id : GenuineIntel", "AVX512", True, False),
        ("vendor_id : GenuineIntel", "AVX512", False, True),
        ("vendor_id : AuthenticAMD", "AVX512", True, True),
        ("vendor_id : AuthenticAMD", "AVX2", True, False),
    ],
)
def test_mkl_multiplies_where_it_takes_all_instructions(
    processor, instructions, mkl, expected, monkeypatch
):
    monkeypatch.setattr(matrix, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    monkeypatch.setattr(torch._C, "has_mkl", mkl)
    found = matrix.convolutions_are_faster()
    assert found == (expected and bool(torch._C._has_mkldnn))
