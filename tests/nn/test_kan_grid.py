"""The grid moved to the data: where its knots are, and that the function stays."""

import pytest
import torch

from kmunet.nn import KANLinear
from kmunet.ops import adapted_grid


def layer(dtype=torch.float64, **options):
    torch.manual_seed(0)
    kan = KANLinear(4, 3, scale_noise=1.0, **options)
    torch.nn.init.normal_(kan.spline_weight)
    return kan.to(dtype)


def points(count=400, spread=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return x + torch.tensor([0.0, 0.3, -0.2, 0.1])


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("grid_size", [3, 5, 12])
def test_knots_hold_the_data_and_increase(order, grid_size):
    kan, x = layer(spline_order=order, grid_size=grid_size), points(spread=3.0)
    kan.update_grid(x, margin=0.25)
    assert kan.grid.shape == (4, grid_size + 1 + 2 * order)
    assert (kan.grid.diff(dim=1) > 0).all()
    torch.testing.assert_close(kan.grid[:, order], x.amin(0) - 0.25)
    torch.testing.assert_close(kan.grid[:, -order - 1], x.amax(0) + 0.25)
    assert kan.share_outside(x) == 0


def test_uniform_or_by_quantiles():
    kan, x = layer(), points()
    kan.update_grid(x, uniform=1.0)
    steps = kan.grid.diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))
    kan.update_grid(x, margin=0.0, uniform=0.0)
    inside = [(x < knot).double().mean(0) for knot in kan.grid.T[4:8]]
    expected = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    found = torch.stack(inside)[:, :1].squeeze(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)


def test_the_same_grid_keeps_the_curves():
    """On a grid of the same span, equal steps: the old curve is in the new space."""
    kan = layer()
    ends = torch.linspace(-1, 1, 301, dtype=torch.float64)[:, None].expand(-1, 4)
    before, weight = kan(ends[1:-1]), kan.spline_weight.clone()
    kan.update_grid(ends, margin=0.0, uniform=1.0)
    torch.testing.assert_close(kan(ends[1:-1]), before, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(kan.spline_weight, weight, rtol=0, atol=1e-4)


def test_the_function_stays_on_the_data():
    kan, x = layer(grid_size=20), points().clamp(-0.95, 0.95)
    smooth = torch.linspace(-1, 1, 23).sin() @ torch.eye(23)
    kan.spline_weight.data.copy_(smooth.expand_as(kan.spline_weight))
    before = kan(x)
    kan.update_grid(x)
    assert (kan(x) - before).abs().max() < 0.02 * before.abs().max()


def test_it_still_learns_and_saves():
    kan, x = layer(torch.float32), points().float()
    kan.update_grid(x)
    assert not kan._has_closed_form()
    kan(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in kan.parameters())
    other = KANLinear(4, 3)
    other.load_state_dict(kan.state_dict())
    assert torch.equal(other(x), kan(x))


def test_the_same_bits_again():
    found, kept = [], []
    for size in range(1, 6):
        kept.append(torch.empty(size))  # moves what is allocated next
        kan = layer(torch.float32)
        kan.update_grid(points().float())
        found.append(kan.spline_weight)
    assert all(torch.equal(found[0], weight) for weight in found)


@pytest.mark.parametrize("x", [torch.zeros(5, 4), torch.full((1, 4), 7.0)], ids=str)
def test_data_of_no_width(x):
    kan = layer(torch.float32)
    kan.update_grid(x, margin=0.0)
    assert (kan.grid.diff(dim=1) > 0).all()
    assert kan(x).isfinite().all()


def test_what_is_not_finite_is_left_out():
    kan, x = layer(), points()
    twin = layer()
    twin.update_grid(x)
    kan.update_grid(torch.cat([x, torch.full((1, 4), torch.nan, dtype=x.dtype)]))
    assert torch.equal(kan.grid, twin.grid)
    with pytest.raises(ValueError, match="at least one row of finite inputs"):
        kan.update_grid(torch.full((2, 4), torch.inf))


def test_share_outside():
    kan = layer(torch.float32)
    x = torch.tensor([[-1.5, 0.0, 0.5, 0.9], [-0.9, 1.1, 2.0, 0.0]])
    assert kan.share_outside(x) == pytest.approx(3 / 8)
    x[1, 3] = torch.nan
    assert kan.share_outside(x) == pytest.approx(4 / 8)


def test_places_of_many_rows():
    """float32 does not hold whole numbers beyond 2^24."""
    x = torch.arange(2**24 + 4, dtype=torch.float32)[:, None] / 2**24
    knots = adapted_grid(x, 4, 3, margin=0.0, uniform=0.0)
    inner = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(knots[0, 3:-3], inner, rtol=0, atol=1e-6)
