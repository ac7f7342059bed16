"""The chunked scan against the naive recursion: values, gradients, hard inputs."""

import pytest
import torch
import torch.nn.functional as F

from kmunet.ops import chunk_steps, chunked, naive, selective_scan

NAMES = ("y", "u", "delta", "A", "B", "C", "D", "delta_bias")
# batch, groups, channels of a group, states, length, elements of a chunk
SHAPES = [
    (1, 1, 1, 1, 1, None),
    (2, 1, 4, 3, 17, None),
    (1, 2, 3, 5, 33, 64),
    (3, 4, 5, 2, 1, 1),
    (2, 4, 8, 16, 100, 4096),
    (5, 3, 7, 11, 13, 2),
    (1, 1, 2, 16, 2000, 512),
]


def inputs(batch, groups, channels, states, length, dtype=torch.float64, spread=1.0):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    d = groups * channels
    return [
        normal(batch, d, length),
        normal(batch, d, length) * spread,
        -normal(d, states).abs(),
        normal(batch, groups, states, length),
        normal(batch, groups, states, length),
        normal(d),
        normal(d),
    ]


def results(scan, tensors, softplus=True):
    """y and the gradients of a weighted sum of y, by name."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = scan(*leaves, softplus)
    weight = torch.randn(
        y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found = torch.autograd.grad((y * weight).sum(), leaves)
    return dict(zip(NAMES, (y.detach(), *found), strict=False))


def assert_same(found, truth, tolerance):
    for name, expected in truth.items():
        scale = expected.abs().max().clamp_min(1e-30)
        error = ((found[name] - expected).abs().max() / scale).item()
        assert error < tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("softplus", [True, False], ids=["softplus", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_values_and_gradients(monkeypatch, shape, softplus):
    *sizes, chunk = shape
    if chunk is not None:
        monkeypatch.setattr(chunk_steps, "CHUNK", chunk)
    tensors = inputs(*sizes)
    if not softplus:  # steps are then positive as they are
        tensors[1], tensors[6] = tensors[1].abs(), tensors[6].abs()
    truth = results(naive.selective_scan, tensors, softplus)
    assert_same(results(chunked.selective_scan, tensors, softplus), truth, 1e-12)


@pytest.mark.parametrize("lanes", [1, 50, 10**6])
def test_slabs_of_the_batch_add_up(monkeypatch, lanes):
    monkeypatch.setattr(chunk_steps, "LANES", lanes)
    tensors = inputs(5, 2, 3, 4, 20)
    truth = results(naive.selective_scan, tensors)
    assert_same(results(chunked.selective_scan, tensors), truth, 1e-12)


def test_optional_arguments_and_ungrouped_b_and_c():
    u, delta, A, B, C, D, bias = inputs(2, 1, 4, 3, 9)
    B, C = B[:, 0], C[:, 0]
    for extra in ([], [D], [None, bias]):
        truth = results(
            lambda *t, e=extra: naive.selective_scan(*t[:5], *e), [u, delta, A, B, C]
        )
        found = results(
            lambda *t, e=extra: chunked.selective_scan(*t[:5], *e), [u, delta, A, B, C]
        )
        assert_same(found, truth, 1e-12)
        assert found["B"].shape == B.shape


EXTREME_DT = [1e-6, 1e-3, 1.0, 50.0]
EXTREME_A = [-1e-6, -1.0, -1e4]


@pytest.mark.parametrize("a", EXTREME_A)
@pytest.mark.parametrize("dt", EXTREME_DT)
def test_extreme_steps_and_decays_float32(dt, a):
    tensors = inputs(2, 2, 3, 4, 65)
    tensors[1], tensors[2] = tensors[1].abs() * dt, tensors[2] * abs(a)
    tensors[6] = torch.zeros_like(tensors[6])
    truth = results(naive.selective_scan, tensors, softplus=False)
    single = [t.float() for t in tensors]
    found = results(chunked.selective_scan, single, softplus=False)
    assert all(value.isfinite().all() for value in found.values())
    assert_same(found, truth, 2e-5)


def test_steps_of_every_size_in_one_sequence():
    tensors = inputs(1, 1, 4, 8, 300)
    exponents = torch.linspace(-6, 1.7, 300, dtype=torch.float64)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    tensors[1] = (10 ** exponents[shuffled]).expand(1, 4, 300).clone()
    tensors[6] = torch.zeros_like(tensors[6])
    truth = results(naive.selective_scan, tensors, softplus=False)
    assert_same(results(chunked.selective_scan, tensors, False), truth, 1e-12)


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(chunk_steps, "CHUNK", 48)
    leaves = [t.requires_grad_() for t in inputs(2, 2, 2, 3, 7)]
    assert torch.autograd.gradcheck(
        lambda *t: chunked.selective_scan(*t, True), tuple(leaves)
    )


def test_non_contiguous_inputs():
    u, delta, A, B, C, D, bias = inputs(2, 2, 3, 4, 21)
    dense = results(chunked.selective_scan, [u, delta, A, B, C, D, bias])
    leaves = [
        u.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        delta.repeat_interleave(2, -1)[..., ::2],
        A.t().contiguous().t(),
        B.transpose(2, 3).contiguous().transpose(2, 3),
        C.flip(-1).contiguous().flip(-1),
        D.repeat_interleave(3)[::3],
        bias,
    ]
    y = chunked.selective_scan(*leaves, True)
    assert torch.equal(y, dense["y"])


def test_expanded_gradient():
    leaves = [t.requires_grad_() for t in inputs(1, 1, 3, 2, 8)]
    summed = torch.autograd.grad(chunked.selective_scan(*leaves, True).sum(), leaves)
    truth = torch.autograd.grad(naive.selective_scan(*leaves, True).sum(), leaves)
    for found, expected in zip(summed, truth, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("module", [naive, chunked], ids=["naive", "chunked"])
def test_half_inputs_have_float32_states(module, dtype):
    half = inputs(2, 1, 4, 3, 50, dtype)
    found = results(module.selective_scan, half)
    assert {value.dtype for value in found.values()} == {dtype}
    truth = module.selective_scan(*(t.float() for t in half), True)
    # Rounding the result once, and nothing else.
    assert torch.equal(found["y"], truth.to(dtype))


def test_two_runs_give_the_same_bits():
    tensors = inputs(4, 4, 16, 16, 200, torch.float32)
    first, second = (results(chunked.selective_scan, tensors) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_what_needs_it_gets_a_gradient():
    u, *others = inputs(1, 1, 2, 2, 5)
    u.requires_grad_()
    chunked.selective_scan(u, *others, True).sum().backward()
    assert u.grad is not None
    assert all(t.grad is None for t in others)


def replaced(tensors, place, value):
    return [value if i == place else t for i, t in enumerate(tensors)]


@pytest.mark.parametrize("module", [naive, chunked], ids=["naive", "chunked"])
@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (0, (2, 6, 0), "u must be"),
        (1, (2, 6, 4), r"delta \(2, 6, 4\)"),
        (2, (5, 4), r"A must be \(6, N\)"),
        (3, (2, 4, 4, 5), "B must be .* G dividing 6"),
        (4, (2, 2, 3, 5), "C must be"),
        (0, (2, 0, 5), "u must be"),
        (3, (2, 0, 4, 5), "B must be .* G dividing 6"),
        (3, (5,), "B must be"),
    ],
)
def test_shapes_that_do_not_fit(module, place, shape, message):
    tensors = replaced(inputs(2, 2, 3, 4, 5), place, torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        module.selective_scan(*tensors)


@pytest.mark.parametrize(("place", "name"), [(0, "u"), (2, "A"), (4, "C")])
def test_numbers_that_are_not_real_are_refused(place, name):
    tensors = inputs(1, 1, 2, 2, 5)
    for dtype in (torch.complex128, torch.int64):
        given = replaced(tensors, place, tensors[place].to(dtype))
        with pytest.raises(ValueError, match=f"{name} must be of real numbers"):
            selective_scan(*given[:6])


@pytest.mark.parametrize("place", range(1, 6))
def test_tensors_on_several_devices_are_refused(place):
    """An operator with one of them on "meta" would give what was in memory."""
    tensors = inputs(1, 1, 2, 2, 5)
    given = replaced(tensors, place, tensors[place].to("meta"))
    with pytest.raises(ValueError, match=f"{NAMES[place + 1]} is on meta, u on cpu"):
        selective_scan(*given[:6])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gated_output_is_rounded_once(dtype):
    """As mamba-ssm does."""
    tensors = [t.to(dtype) for t in inputs(2, 1, 4, 3, 17)]
    u, *others = tensors[:6]
    z = torch.randn(u.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    wide = [t.float() for t in (u, *others)]
    expected = naive.selective_scan(*wide) * F.silu(z.float())
    found = selective_scan(u, *others, z=z)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)
    assert selective_scan(u, *others, z=z.float()).dtype == dtype


def test_the_last_state_keeps_what_follows_a_large_step():
    """A sum of all steps less the large one has none of its digits left."""
    one = torch.ones(1, 1, 2)
    for dt, decay in ((50.0, -1e4), (300.0, -1e3)):
        delta = torch.tensor([[[dt, 1e-5]]])
        A, B = torch.tensor([[decay]]), torch.ones(1, 1, 2)
        _, state = selective_scan(one, delta, A, B, B, return_last_state=True)
        wide = [t.double() for t in (one, delta, A, B, B)]
        truth = naive.selective_scan(*wide)[..., -1]  # C is 1
        torch.testing.assert_close(state[..., 0].double(), truth, rtol=1e-6, atol=0)
