"""The fused 2-D scan against the composed one in float64: values, every gradient."""

import pytest
import torch

from kmunet.ops import selective_scan_2d, use_backend
from kmunet.ops.cpu import native
from kmunet.ops.cpu.scan_2d import scan_with

NAMES = ("y", "x", "x_proj", "dt_proj", "dt_bias", "A_logs", "Ds")
# batch, channels, height, width, states, rank
SHAPES = [
    (1, 1, 1, 1, 1, 1),
    (2, 3, 4, 5, 5, 2),
    (1, 32, 33, 40, 16, 1),
    (3, 40, 7, 9, 16, 3),
    (2, 20, 1, 50, 8, 10),
    (2, 64, 9, 1, 7, 2),
    (1, 33, 16, 2, 16, 8),
    (5, 16, 8, 8, 3, 4),
    (2, 130, 7, 9, 5, 3),
]


def inputs(batch, channels, height, width, states, rank):
    """In float64, as a model starts: steps of about 0.001 to 0.1, A from -1 to -N."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    A = torch.arange(1, states + 1, dtype=torch.float64).expand(4 * channels, -1)
    return [
        normal(batch, channels, height, width),
        normal(4, rank + 2 * states, channels) * channels**-0.5,
        normal(4, channels, rank) * rank**-0.5,
        normal(4, channels) - 4,
        A.log() + 0.1 * normal(4 * channels, states),
        normal(4 * channels),
    ]


def results(scan, tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = scan(*leaves)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad(y, leaves, weight.to(y.dtype))
    return dict(zip(NAMES, (y.detach(), *found), strict=True))


def truth(tensors):
    with use_backend("naive"):
        return results(selective_scan_2d, [t.double() for t in tensors])


def of(kernel):
    return lambda *tensors: scan_with(kernel, *tensors)


def assert_close(found, expected, tolerance=3e-6):
    for name, value in expected.items():
        scale = value.abs().max().clamp_min(1e-30)
        error = ((found[name].double() - value).abs().max() / scale).item()
        assert error < tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_values_and_gradients(kernel, threads, shape, count):
    threads(count)
    single = [t.float() for t in inputs(*shape)]
    assert_close(results(of(kernel), single), truth(single))


@pytest.mark.parametrize(
    "shape", [(3, 40, 7, 9, 16, 3), (1, 64, 20, 30, 16, 2), (1, 130, 9, 9, 5, 3)]
)
def test_the_same_bits_for_any_number_of_threads(kernel, threads, shape):
    single = [t.float() for t in inputs(*shape)]
    threads(1)
    first = results(of(kernel), single)
    for count in (1, 2, 3, 4, 7):
        threads(count)
        again = results(of(kernel), single)
        for name in NAMES:
            assert torch.equal(first[name], again[name]), (name, count)


def test_the_same_bits_on_every_run(kernel, threads):
    threads(2)
    single = [t.float() for t in inputs(2, 64, 20, 30, 16, 2)]
    first = results(of(kernel), single)
    for _ in range(5):
        again = results(of(kernel), single)
        assert all(torch.equal(first[name], again[name]) for name in NAMES)


def test_every_number_of_the_results_is_written(kernel, monkeypatch):
    """Memory that is not initialized holds NaN here."""
    empty, empty_like = torch.empty, torch.empty_like
    single = [t.float() for t in inputs(2, 20, 5, 7, 5, 3)]
    expected = results(of(kernel), single)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda x: empty_like(x).fill_(torch.nan))
    found = results(of(kernel), single)
    assert all(torch.equal(found[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("a", [-1e-6, -1.0, -1e4, -1e30])
@pytest.mark.parametrize("dt", [1e-6, 1e-3, 1.0, 50.0])
def test_extreme_steps_and_decays(kernel, dt, a):
    tensors = inputs(2, 5, 6, 11, 4, 2)
    step = torch.tensor(dt, dtype=torch.float64)
    tensors[2] *= 0.1
    tensors[3] = (step + torch.log(-torch.expm1(-step))).expand(4, 5)  # softplus^-1
    tensors[4] = torch.full_like(tensors[4], abs(a)).log()
    single = [t.float() for t in tensors]
    found = results(of(kernel), single)
    assert all(value.isfinite().all() for value in found.values())
    assert_close(found, truth(single), 3e-5)


def test_infinite_and_missing_numbers_are_not_hidden(kernel):
    single = [t.float() for t in inputs(1, 4, 3, 3, 2, 1)]
    single[0][0, 1, 1, 1] = torch.nan
    assert scan_with(kernel, *single).isnan().any()
    single[0][0, 1, 1, 1] = torch.inf
    assert not scan_with(kernel, *single).isfinite().all()
    single = [t.float() for t in inputs(1, 4, 3, 3, 2, 1)]
    single[4][1, 1] = torch.tensor(0x7FC12345, dtype=torch.int32).view(torch.float32)
    assert scan_with(kernel, *single).isnan().any()  # whichever NaN A is


def test_any_layout_of_the_input(kernel):
    single = [t.float() for t in inputs(2, 6, 5, 4, 3, 2)]
    expected = results(of(kernel), single)
    last = single[0].contiguous(memory_format=torch.channels_last)
    strided = [t.repeat_interleave(2, -1)[..., ::2] for t in single]
    assert_close(results(of(kernel), [last, *single[1:]]), expected, 1e-6)
    assert_close(results(of(kernel), strided), expected, 1e-6)


def test_without_gradients_the_same_values(kernel):
    single = [t.float() for t in inputs(2, 20, 9, 13, 16, 2)]
    expected = results(of(kernel), single)["y"]
    assert torch.equal(scan_with(kernel, *single), expected)


def test_through_the_dispatch(monkeypatch):
    if native.kernel() is None:
        pytest.skip("no C++ compiler on this machine: install g++ or clang++")
    tensors = inputs(1, 20, 5, 6, 16, 2)
    single = [t.float() for t in tensors]
    with use_backend("cpu"):
        assert_close(results(selective_scan_2d, single), truth(single))
        double = results(selective_scan_2d, tensors)  # float64 is for plain torch
    assert_close(double, truth(tensors), 1e-11)
