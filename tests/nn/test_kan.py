"""KANLinear: its formula, its initial fit, and which form of the splines it takes."""

import copy

import pytest
import torch
import torch.nn.functional as F

from kmunet.nn import KANBlock, KANLayer, KANLinear
from kmunet.ops import b_spline_bases


def layer(dtype=torch.float32, **options):
    torch.manual_seed(0)
    return KANLinear(5, 4, **options).to(dtype)


def by_the_formula(kan, x):
    """y_j = sum_i base_ji SiLU(x_i) + scaler_ji sum_k spline_jik N_k(x_i)."""
    bases = b_spline_bases(x, kan.grid, kan.spline_order)
    edges = torch.einsum("...ik,oik->...oi", bases, kan.spline_weight)
    return F.silu(x) @ kan.base_weight.T + (edges * kan.spline_scaler).sum(-1)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4, 5), (0, 5)], ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_against_the_formula(shape, order):
    kan = layer(torch.float64, spline_order=order)
    x = 1.5 * torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(kan(x), by_the_formula(kan, x))


def test_names_as_published():
    shapes = {name: tuple(t.shape) for name, t in layer().state_dict().items()}
    assert shapes == {
        "base_weight": (4, 5),
        "spline_weight": (4, 5, 8),
        "spline_scaler": (4, 5),
        "grid": (5, 12),
    }


@pytest.mark.parametrize("grid_size", [1, 5, 9])
def test_first_splines_are_the_published_fit(grid_size):
    """Least squares of smallest norm through the same noise, as LAPACK solves it."""
    torch.manual_seed(4)
    kan = KANLinear(5, 4, grid_size)
    torch.manual_seed(4)
    torch.nn.init.kaiming_uniform_(torch.empty(4, 5), a=5**0.5)
    noise = (torch.rand(grid_size + 1, 5, 4) - 0.5) * (0.1 / grid_size)
    bases = b_spline_bases(kan.grid.T[3:-3], kan.grid, 3).transpose(0, 1)
    fit = torch.linalg.lstsq(bases.double(), noise.transpose(0, 1).double()).solution
    expected = fit.permute(2, 0, 1).float()
    torch.testing.assert_close(kan.spline_weight.detach(), expected)


def test_the_same_seed_gives_the_same_bits():
    found, kept = [], []
    for size in range(1, 12):
        kept.append(torch.empty(size))  # moves what is allocated next
        torch.manual_seed(5)
        found.append(KANLinear(16, 6).spline_weight)
    assert all(torch.equal(found[0], weight) for weight in found)


def test_first_splines_are_small_noise():
    kan = layer(scale_noise=0.1)
    inner = kan.grid.T[3:-3]
    bases = b_spline_bases(inner, kan.grid, 3)
    curve = torch.einsum("pik,oik->pio", bases, kan.spline_weight)
    assert 0 < curve.abs().max() <= 0.1 / 5 / 2 + 1e-5
    assert not layer(scale_noise=0.0).spline_weight.any()


def test_closed_form_where_the_grid_is_uniform():
    kan = layer()
    assert kan._has_closed_form()
    # A grid rounded to float32 keeps the recursion in float64.
    assert not kan.double()._has_closed_form()


@pytest.mark.parametrize("change", ["in place", "load", "replace"])
def test_a_changed_grid_is_noticed(change):
    kan, x = layer(), torch.randn(20, 5)
    kan(x)
    bent = kan.grid.clone()
    bent[:, 5] += 0.07
    if change == "in place":
        kan.grid.copy_(bent)
    elif change == "load":
        kan.load_state_dict(kan.state_dict() | {"grid": bent})
    else:
        kan.grid = bent
    torch.testing.assert_close(kan(x), by_the_formula(kan, x))
    assert not kan._has_closed_form()


def test_the_grid_is_looked_at_once(monkeypatch):
    calls = []
    monkeypatch.setattr("kmunet.nn.kan.is_uniform", lambda g: not calls.append(g))
    kan = layer()
    for _ in range(3):
        kan(torch.randn(2, 5))
    assert len(calls) == 1


def test_copies_and_inference_mode():
    kan, x = layer(), torch.randn(3, 5)
    expected = kan(x)
    assert torch.equal(copy.deepcopy(kan)(x), expected)
    with torch.inference_mode():
        assert torch.equal(kan(x), expected)
        torch.testing.assert_close(copy.deepcopy(kan)(x), expected)


@pytest.mark.parametrize("bent", [False, True])
def test_exports(bent):
    kan, x = layer(), torch.randn(3, 5)
    if bent:
        knots = kan.grid.clone()
        knots[:, 5] += 0.07
        kan.load_state_dict(kan.state_dict() | {"grid": knots})
    exported = torch.export.export(kan, (x,)).module()
    torch.testing.assert_close(exported(x), by_the_formula(kan, x))


@pytest.mark.parametrize("order", [2, 3])
def test_autocast_reaches_the_products_and_not_the_splines(order, monkeypatch):
    """On a grid far from 0 an argument in bfloat16 would miss its spline."""
    monkeypatch.setattr("kmunet.ops.precision.CPU_PRODUCTS", [torch.bfloat16])
    kan = layer(grid_range=(63, 65), spline_order=order)
    torch.nn.init.zeros_(kan.base_weight)
    torch.nn.init.normal_(kan.spline_weight)
    x = 64 + torch.rand(200, 5)
    truth = by_the_formula(copy.deepcopy(kan).double(), x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, rounded = kan(x), kan(x.bfloat16())
    assert y.dtype == torch.bfloat16

    def error(found):
        return ((found.double() - truth).norm() / truth.norm()).item()

    assert 1e-4 < error(y) < 2**-8
    assert error(rounded) > 10 * error(y)


def test_no_reduced_products_without_instructions_for_them(monkeypatch):
    monkeypatch.setattr("kmunet.ops.precision.CPU_PRODUCTS", [])
    kan, x = layer(), torch.randn(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = kan(x)
    assert torch.equal(y, kan(x))


def test_layer_without_kan_has_plain_linears():
    plain, kan = KANLayer(6, kan=False), KANLayer(6)
    assert not [m for m in plain.modules() if isinstance(m, KANLinear)]
    assert len([m for m in kan.modules() if isinstance(m, KANLinear)]) == 3


@pytest.mark.parametrize("kan", [True, False])
def test_block_adds_to_its_input(kan):
    block = KANBlock(6, kan).eval()
    x = torch.randn(2, 3, 4, 6)
    assert block(x).shape == x.shape
    torch.nn.init.zeros_(block.layer.dwconv_3.bn.weight)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("given", [{"grid_size": 0}, {"spline_order": 0}])
def test_a_spline_that_cannot_be_is_refused(given):
    with pytest.raises(ValueError, match="must be at least 1"):
        KANLinear(2, 2, **given)


def test_made_anew_it_is_as_at_first():
    kan, x = layer(), torch.randn(20, 5)
    state = copy.deepcopy(kan.state_dict())
    kan.update_grid(2 * x)
    torch.manual_seed(0)
    kan.reset_parameters()
    assert all(torch.equal(t, state[name]) for name, t in kan.state_dict().items())


def test_made_without_memory_and_filled_later():
    with torch.device("meta"):
        kan = layer()
    kan.to_empty(device="cpu")
    kan.grid.fill_(7.0)
    torch.manual_seed(0)
    kan.reset_parameters()
    expected = layer()
    assert torch.equal(kan.grid, expected.grid)
    assert torch.equal(kan.spline_weight, expected.spline_weight)
