"""B-spline bases against scipy, and the closed form against the recursion."""

import numpy as np
import pytest
import torch

from kmunet.ops import b_spline_bases, is_uniform, uniform_cubic_bases


def uniform_grid(features=3, dtype=torch.float64):
    knots = torch.arange(-3, 9, dtype=dtype) * 0.4 - 1
    scales = torch.linspace(1, 2, features, dtype=dtype)[:, None]
    return knots * scales  # a step for each feature


def points(count=200, features=3, spread=1.5):
    generator = torch.Generator().manual_seed(0)
    return spread * torch.randn(
        count, features, generator=generator, dtype=torch.float64
    )


def of_scipy(x, knots, order):
    """Each basis as scipy has it; 0 outside its own support."""
    element_of = pytest.importorskip("scipy.interpolate").BSpline.basis_element
    columns = []
    for i in range(len(knots) - order - 1):
        element = element_of(knots[i : i + order + 2], extrapolate=False)
        columns.append(np.nan_to_num(element(x)))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_recursion_against_scipy(order):
    generator = np.random.default_rng(0)
    knots = np.sort(generator.uniform(-2, 2, (2, 12)))
    x = generator.uniform(-3, 3, (100, 2))
    found = b_spline_bases(torch.tensor(x), torch.tensor(knots), order)
    for feature in range(2):
        expected = of_scipy(x[:, feature], knots[feature], order)
        np.testing.assert_allclose(found[:, feature], expected, rtol=0, atol=1e-12)


def test_closed_form_against_scipy():
    grid, x = uniform_grid(), points()
    found = uniform_cubic_bases(x, grid)
    for feature in range(3):
        expected = of_scipy(x[:, feature].numpy(), grid[feature].numpy(), 3)
        np.testing.assert_allclose(found[:, feature], expected, rtol=0, atol=1e-12)


def recursion(x, grid):
    return b_spline_bases(x, grid, 3)


def test_values_and_slopes_agree():
    grid = uniform_grid()
    x = points().requires_grad_()
    weight = torch.randn(200, 3, 8, dtype=torch.float64)
    pairs = []
    for form in (recursion, uniform_cubic_bases):
        y = form(x, grid)
        pairs.append((y.detach(), torch.autograd.grad((y * weight).sum(), x)[0]))
    torch.testing.assert_close(pairs[0], pairs[1], rtol=1e-10, atol=1e-11)


def test_gradcheck():
    x = points(20).requires_grad_()
    assert torch.autograd.gradcheck(uniform_cubic_bases, (x, uniform_grid()))


@pytest.mark.parametrize("far", [-1e6, -50.0, 50.0, 1e6])
def test_zero_far_outside(far):
    x = torch.full((4, 3), far, dtype=torch.float64)
    assert not b_spline_bases(x, uniform_grid(), 3).any()
    assert not uniform_cubic_bases(x, uniform_grid()).any()


def test_bases_add_up_to_one_inside():
    grid = uniform_grid(1)
    x = torch.linspace(-1, 0.999, 50, dtype=torch.float64)[:, None]
    one = torch.ones(50, 1, dtype=torch.float64)
    torch.testing.assert_close(uniform_cubic_bases(x, grid).sum(-1), one)


def test_float32_is_close_everywhere():
    grid, x = uniform_grid(), points()
    found = uniform_cubic_bases(x.float(), grid.float())
    assert (found - b_spline_bases(x, grid, 3)).abs().max() < 3e-6


def test_any_leading_shape():
    grid, x = uniform_grid(), points()
    maps = x.view(2, 10, 10, 3)
    assert torch.equal(
        uniform_cubic_bases(maps, grid).view(200, 3, 8), uniform_cubic_bases(x, grid)
    )


def test_what_is_uniform():
    grid = uniform_grid()
    assert is_uniform(grid)
    assert is_uniform(grid.float())
    # Rounded to float32 it is not uniform to float64's precision.
    assert not is_uniform(grid.float().double())
    grid[1, 4] += 1e-3
    assert not is_uniform(grid)
