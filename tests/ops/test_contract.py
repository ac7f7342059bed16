"""What every version of the scan must do, held against the float64 recursion."""

import pytest
import torch

from kmunet.ops import naive, selective_scan, selective_scan_2d, use_backend
from tests.ops.samples import (
    NAMES,
    NAMES_2D,
    assert_same,
    inputs,
    inputs_2d,
    results,
)

# Triton's interpreter computes with numpy.
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")

# batch, groups, channels of a group, states, length
TINY = [(1, 1, 1, 1, 1), (1, 2, 3, 2, 7)]
SHAPES = [
    *TINY,
    (2, 1, 4, 3, 17),
    (3, 4, 5, 2, 1),
    (2, 4, 8, 16, 100),
    (5, 3, 7, 11, 13),
    (1, 1, 2, 16, 2000),
    (1, 2, 130, 5, 67),
]
# batch, channels, height, width, states, rank
TINY_2D = [(1, 2, 1, 1, 1, 1), (1, 3, 2, 4, 3, 2)]
SHAPES_2D = [
    *TINY_2D,
    (1, 32, 33, 40, 16, 1),
    (3, 40, 7, 9, 16, 3),
    (2, 20, 1, 50, 8, 10),
    (2, 64, 9, 1, 7, 2),
    (1, 130, 5, 6, 3, 4),
]
HALF = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def ids(shape):
    return "-".join(map(str, shape))


def only_tiny(version, shape, tiny):
    if version.interpreted and shape not in tiny:
        pytest.skip("too large for Triton's interpreter")


def on(version, tensors):
    return [t.to(version.device) for t in tensors]


def found_y(u, delta, A, B, C, D=None, bias=None, softplus=True):
    return selective_scan(
        u, delta, A, B, C, D, delta_bias=bias, delta_softplus=softplus
    )


def found(version, tensors, softplus=True):
    return results(
        lambda *t: found_y(*t, softplus=softplus),
        on(version, tensors),
        NAMES,
    )


def truth(tensors, softplus=True):
    """In float64, from the same rounded numbers."""
    return results(
        lambda *t: naive.selective_scan(*t, delta_softplus=softplus),
        [t.double() for t in tensors],
        NAMES,
    )


def found_2d(version, tensors):
    return results(selective_scan_2d, on(version, tensors), NAMES_2D)


def truth_2d(tensors):
    with use_backend("naive"):
        return results(selective_scan_2d, [t.double() for t in tensors], NAMES_2D)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_values_and_gradients(version, shape):
    only_tiny(version, shape, TINY)
    tensors = inputs(*shape, torch.float32)
    assert_same(found(version, tensors), truth(tensors), 5e-6)


@pytest.mark.parametrize("shape", SHAPES_2D, ids=ids)
def test_values_and_gradients_2d(version, shape):
    only_tiny(version, shape, TINY_2D)
    tensors = inputs_2d(*shape, torch.float32)
    assert_same(found_2d(version, tensors), truth_2d(tensors), 5e-6)


@pytest.mark.parametrize("count", [5, 6])
def test_optional_arguments(version, count):
    tensors = inputs(1, 1, 2, 2, 3, torch.float32)[:count]
    tensors[1] = tensors[1].abs()
    expected = truth(tensors, softplus=False)
    assert_same(found(version, tensors, softplus=False), expected, 5e-6)


@pytest.mark.parametrize("dtype", HALF)
def test_half_inputs_have_float32_states(version, dtype):
    tensors = inputs(1, 1, 2, 2, 7, dtype)
    half = found(version, tensors)
    assert {value.dtype for value in half.values()} == {dtype}
    assert_same(half, truth(tensors), HALF[dtype])


@pytest.mark.parametrize("dtype", HALF)
def test_half_pixels_give_float32(version, dtype):
    x, *weights = inputs_2d(1, 2, 2, 3, 2, 1, torch.float32)
    half = found_2d(version, [x.to(dtype), *weights])
    assert half["y"].dtype == torch.float32
    assert half["x"].dtype == dtype
    assert half["A_logs"].dtype == torch.float32
    exact = truth_2d([x.to(dtype), *weights])
    assert_same({"y": half["y"]}, {"y": exact["y"]}, 5e-6)
    assert_same(half, exact, HALF[dtype])


def test_extreme_steps_and_decays(version):
    """A of 0 and of -1e4; dt around softplus' threshold, vanishing and huge."""
    tensors = inputs(1, 1, 4, 2, 11, torch.float32)
    z = torch.tensor([-90, -30, -12, -3.6, -3.4, 0, 19.9, 20, 20.1, 60, 300.0])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    tensors[1] = z[order].expand(1, 4, 11).clone()
    tensors[2] = -torch.tensor([[0.0, 1e-6], [1e-3, 1.0], [30.0, 1e4], [0.0, 1e-30]])
    tensors[6] = torch.zeros(4)
    values = found(version, tensors)
    assert all(value.isfinite().all() for value in values.values())
    assert_same(values, truth(tensors), 3e-5)


def test_each_tiny_step_keeps_its_digits(version):
    """Where dt is 1e-9 the result is dt times something, not 0."""
    tensors = inputs(1, 1, 2, 2, 4, torch.float32)[:5]
    tensors[1] = torch.full((1, 2, 4), -20.7)
    assert_same(found(version, tensors), truth(tensors), 1e-5)


def test_growing_states(version):
    tensors = inputs(1, 1, 3, 2, 9, torch.float32)
    tensors[2] = 0.1 * tensors[2].abs()  # above 0 is allowed
    assert_same(found(version, tensors), truth(tensors), 5e-6)


def test_non_contiguous_inputs(version):
    u, delta, A, B, C, D, bias = on(version, inputs(1, 2, 2, 2, 6, torch.float32))
    expected = found_y(u, delta, A, B, C, D, bias)
    strided = [
        u.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        delta.repeat_interleave(2, -1)[..., ::2],
        A.t().contiguous().t(),
        B.transpose(2, 3).contiguous().transpose(2, 3),
        C.flip(-1).contiguous().flip(-1),
        D.repeat_interleave(3)[::3],
        bias,
    ]
    torch.testing.assert_close(found_y(*strided), expected)


def test_any_layout_of_an_image(version):
    tensors = inputs_2d(1, 3, 2, 4, 2, 1, torch.float32)
    expected = found_2d(version, tensors)
    last = tensors[0].contiguous(memory_format=torch.channels_last)
    assert_same(found_2d(version, [last, *tensors[1:]]), expected, 1e-6)


def test_every_number_of_the_results_is_written(version, monkeypatch):
    """Memory that is not initialized holds NaN here."""
    tensors = inputs_2d(1, 3, 2, 4, 3, 2, torch.float32)
    expected = found_2d(version, tensors)
    empty, empty_like = torch.empty, torch.empty_like

    def poisoned(make):
        def filled(*arguments, **more):
            made = make(*arguments, **more)
            return made.fill_(torch.nan) if made.is_floating_point() else made

        return filled

    monkeypatch.setattr(torch, "empty", poisoned(empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(empty_like))
    again = found_2d(version, tensors)
    if version.repeatable:
        assert all(torch.equal(again[name], expected[name]) for name in NAMES_2D)
    assert_same(again, expected, 1e-5)


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (0, (1, 0, 2, 4)),
        (0, (1, 3, 4)),
        (1, (4, 4, 3)),
        (2, (4, 3, 0)),
        (3, (3,)),
        (4, (11, 2)),
        (5, (6,)),
    ],
)
def test_a_scan_of_other_shapes_is_refused(version, place, shape):
    """A kernel would read beyond the memory that it is given."""
    tensors = inputs_2d(1, 3, 2, 4, 2, 1, torch.float32)
    tensors[place] = torch.zeros(shape)
    with pytest.raises(ValueError, match="must"):
        selective_scan_2d(*on(version, tensors))


@pytest.mark.parametrize("place", [2, 5, 6])
def test_a_sequence_of_other_shapes_is_refused(version, place):
    tensors = inputs(1, 1, 2, 2, 3, torch.float32)
    tensors[place] = tensors[place][..., :0]
    with pytest.raises(ValueError, match="must be"):
        found_y(*on(version, tensors))


def test_gate_and_last_state(version):
    u, delta, A, B, C, D, bias = on(version, inputs(2, 2, 3, 4, 5, torch.float32))
    z = delta.flip(-1) * 3
    more = {"z": z, "delta_bias": bias, "delta_softplus": True}
    y, state = selective_scan(u, delta, A, B, C, D, return_last_state=True, **more)
    plain = found_y(u, delta, A, B, C, D, bias)
    torch.testing.assert_close(y, plain * z * z.sigmoid())
    # <C, h> at the last step is what y is made of there.
    last = found_y(u, delta, A, B, C, None, bias)[..., -1]
    C_last = C[..., -1].repeat_interleave(u.shape[1] // C.shape[1], dim=1)
    torch.testing.assert_close((C_last * state).sum(-1), last, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="must be as u"):
        selective_scan(u, delta, A, B, C, D, z[..., 1:])


def test_an_empty_batch(version):
    tensors = inputs_2d(1, 3, 2, 4, 2, 1, torch.float32)
    tensors[0] = tensors[0][:0]
    gradients = found_2d(version, tensors)
    assert gradients["y"].shape == (0, 3, 2, 4)
    assert all((gradients[name] == 0).all() for name in NAMES_2D)


def test_the_same_bits_on_every_run(version):
    if not version.repeatable:
        pytest.skip("mamba-ssm adds atomically")
    size = (2, 4, 16, 16, 200) if not version.interpreted else (1, 1, 2, 2, 7)
    tensors = inputs(*size, torch.float32)
    first = found(version, tensors)
    for _ in range(1 if version.interpreted else 9):
        again = found(version, tensors)
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("name", NAMES_2D[1:])
def test_missing_numbers_are_not_hidden(version, name):
    tensors = on(version, inputs_2d(1, 2, 2, 2, 2, 1, torch.float32))
    missing = tensors[NAMES_2D.index(name) - 1]
    missing[(0,) * missing.dim()] = torch.nan
    assert selective_scan_2d(*tensors).isnan().any()


def test_gradcheck(version):
    """float64 runs in every version, in one or the other of plain torch."""
    leaves = on(version, inputs(1, 2, 2, 2, 4))
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(found_y, leaves)
    leaves = on(version, inputs_2d(1, 2, 2, 3, 2, 1))
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(selective_scan_2d, leaves)
