"""The share outside the grids against a count, and grids that follow the data."""

import copy

import pytest
import torch

from kmunet.models import build_model
from kmunet.nn import KANLinear
from kmunet.nn.kan_block import KANBlock
from kmunet.training import LocalReporter, fit
from kmunet.training.kan_grid import OutsideShare, fit_grids


def test_the_share_is_that_of_numbers_beyond_the_grid():
    layer = KANLinear(2, 3)
    x = torch.tensor([[0.0, 0.5], [-0.9, 1.1], [2.0, -1.5], [0.99, -0.99]])
    outside = OutsideShare(torch.nn.Sequential(layer), torch.device("cpu"))
    with outside.watching():
        layer(x)
        layer(x[:2])  # none in one row, one in the other
    layer(x * 100)  # not watched
    found, seen = outside.sums.tolist()
    assert (found, seen) == pytest.approx((4 * 3 / 8 + 2 * 1 / 4, 6))


def test_fitting_keeps_nothing_of_the_batch_in_any_norm():
    """BatchNorm1d, like SyncBatchNorm, is no BatchNorm2d."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), KANLinear(2, 3))
    fit_grids(model, torch.randn(8, 2) + 5)
    assert torch.equal(model[0].running_mean, torch.zeros(2))
    assert model[1].grid[:, 0].min() < -1 < 1 < model[1].grid[:, -1].max()


def test_fitted_grids_hold_the_inputs_and_keep_the_function(model):
    image = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 3
    twin = copy.deepcopy(model).train()
    before, first = twin(image), _share(model, image)
    buffers = [buffer.clone() for buffer in model.buffers() if buffer.dim() != 2]
    fit_grids(model, image)
    kept = [buffer for buffer in model.buffers() if buffer.dim() != 2]
    assert all(torch.equal(*pair) for pair in zip(buffers, kept, strict=True))
    assert first > 0.05
    assert _share(model, image) < 0.01
    after = model.train()(image)
    assert (after - before).abs().max() < 0.1 * before.abs().max()


def _share(model, image):
    twin = copy.deepcopy(model).train()
    outside = OutsideShare(twin, torch.device("cpu"))
    with outside.watching():
        twin(image)
    found, seen = outside.sums.tolist()
    return found / seen


def test_it_is_recorded_fitted_on_request_and_resumed(model, data, params, tmp_path):
    for module in model.modules():
        if isinstance(module, KANBlock):
            module.drop_path = 0.5
    twin, part = copy.deepcopy(model), copy.deepcopy(model)
    common = {"epochs": 3, "ema_decay": 0.9}
    plain = fit(model, data, params(**common), LocalReporter(tmp_path / "a"))
    chosen = params(**common, grid_updates=2)
    fitted = fit(twin, data, chosen, LocalReporter(tmp_path / "b"))
    assert all(0 < row["kan_outside"] <= 1 for row in plain.history)
    assert fitted.history[0] != plain.history[0]
    assert fitted.averaged == 8  # since the last fit, before the fifth step
    short = params(**common, grid_updates=2, max_steps=4)
    fit(part, data, short, LocalReporter(tmp_path / "c"))
    again = fit(part, data, chosen, LocalReporter(tmp_path / "c"))
    assert again == fitted


def test_without_kan_layers_nothing_is_fitted(data, params, tmp_path):
    torch.manual_seed(0)
    model = build_model("km_unet", widths=(32, 40, 48), kan=False)
    twin, common = copy.deepcopy(model), {"ema_decay": 0.9}
    plain = fit(model, data, params(**common), LocalReporter(tmp_path / "a"))
    chosen = params(**common, grid_updates=2)
    assert fit(twin, data, chosen, LocalReporter(tmp_path / "b")) == plain
    assert plain.averaged == 8
