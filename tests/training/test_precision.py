"""train.precision: bfloat16 follows float32; weights and results are float32."""

import copy

import pytest
import torch

from kmunet.ops import selective_scan_2d
from kmunet.training import LocalReporter, fit


def losses(state):
    return torch.tensor([row["train_loss"] for row in state.history])


def test_bfloat16_follows_float32(model, data, params, tmp_path):
    twin = copy.deepcopy(model)
    options = {"epochs": 3, "lr": 1e-2}
    full = fit(model, data, params(**options), LocalReporter(tmp_path / "full"))
    half = params(**options, precision="bfloat16")
    reduced = fit(twin, data, half, LocalReporter(tmp_path / "half"))
    assert losses(full)[-1] < 0.97 * losses(full)[0]  # there is something to follow
    torch.testing.assert_close(losses(reduced), losses(full), rtol=0.02, atol=0)
    assert losses(reduced).ne(losses(full)).all()
    assert {p.dtype for p in twin.parameters()} == {torch.float32}


def test_the_same_seed_gives_the_same_bits(model, data, params, tmp_path):
    twin, half = copy.deepcopy(model), params(precision="bfloat16")
    first = fit(model, data, half, LocalReporter(tmp_path / "a"))
    second = fit(twin, data, half, LocalReporter(tmp_path / "b"))
    assert first == second
    pairs = zip(model.state_dict().values(), twin.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_validation_is_in_float32(model, data, params, tmp_path, precision):
    seen = []
    model.final.register_forward_hook(
        lambda module, _, y: seen.append((module.training, y.dtype))
    )
    half = params(epochs=1, precision=precision)
    fit(model, data, half, LocalReporter(tmp_path))
    expected = getattr(torch, precision)
    assert set(seen) == {(True, expected), (False, torch.float32)}


def test_the_scan_stays_in_float32():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 3, 3)
    weights = [torch.randn(4, 1 + 32, 4), torch.randn(4, 4, 1), torch.randn(4, 4)]
    weights += [torch.rand(16, 16), torch.randn(16)]
    with torch.autocast("cpu", torch.bfloat16):
        reduced = selective_scan_2d(x.bfloat16(), *weights)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(
        reduced, selective_scan_2d(x.bfloat16().float(), *weights)
    )
