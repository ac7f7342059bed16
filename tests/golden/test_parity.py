"""The model computes what the published one computes: logits, loss, every gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kmunet.ops import use_backend

STORED = np.finfo(np.float32).eps  # logits are stored as float32
FLOAT64, FLOAT32 = torch.float64, torch.float32


def loss_of(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """0.5 BCE + soft Dice per image, smooth 1e-5, as the golden loss."""
    p, t = logits.sigmoid().flatten(1), target.flatten(1)
    dice = (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)
    return 0.5 * F.binary_cross_entropy_with_logits(logits, target) + 1 - dice.mean()


def logits_of(golden, dtype, images, size):
    model = golden.model(dtype).eval()
    with torch.no_grad():
        return model(golden.image(images, size, dtype)).numpy()


@pytest.mark.parametrize(("images", "size"), [(2, 64), (1, 256)])
def test_eval_logits_float64_to_the_stored_precision(golden, images, size):
    stored = golden.values[f"eval_{size}"]
    found = logits_of(golden, FLOAT64, images, size)
    np.testing.assert_allclose(found, stored, rtol=STORED, atol=1e-9)


def test_eval_logits_float64_with_the_naive_scan(golden):
    with use_backend("naive"):
        found = logits_of(golden, FLOAT64, 2, 64)
    np.testing.assert_allclose(found, golden.values["eval_64"], rtol=STORED, atol=1e-9)


def test_eval_logits_float32_at_64(golden):
    found = logits_of(golden, FLOAT32, 2, 64)
    np.testing.assert_allclose(found, golden.values["eval_64"], rtol=0, atol=1e-4)


def test_eval_logits_float32_at_256(golden):
    # Rounding the weights alone to float32, computing in float64, moves a logit by
    # 9e-5: here 1e-4 is meant against the largest logit, 7.1.
    stored = golden.values["eval_256"]
    found = logits_of(golden, FLOAT32, 1, 256)
    assert np.abs(found - stored).max() < 1e-4 * np.abs(stored).max()
    assert np.abs(found - stored).mean() < 5e-5


@pytest.fixture(scope="module", params=[FLOAT64, FLOAT32], ids=["float64", "float32"])
def step(request, golden):
    """One training step at 64: dtype, logits, loss, gradients by name."""
    dtype = request.param
    model = golden.model(dtype).train()
    logits = model(golden.image(2, 64, dtype))
    loss = loss_of(logits, golden.mask(2, 64, dtype))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return dtype, logits.detach().numpy(), loss.item(), gradients


def test_train_logits(golden, step):
    dtype, logits, _, _ = step
    rtol, atol = (STORED, 1e-9) if dtype == FLOAT64 else (0, 1e-4)
    np.testing.assert_allclose(logits, golden.values["train_64"], rtol=rtol, atol=atol)


def test_loss(golden, step):
    dtype, _, loss, _ = step
    tolerance = 1e-12 if dtype == FLOAT64 else 1e-5
    assert loss == pytest.approx(float(golden.values["loss_64"]), rel=tolerance)


def test_every_gradient_norm(golden, step):
    dtype, _, _, gradients = step
    names = [str(name) for name in golden.values["grad_names"]]
    assert sorted(names) == sorted(gradients)
    found = np.array([gradients[name].double().norm().item() for name in names])
    stored = golden.values["grad_norms"]
    # Convolutions before a batch norm: a bias has no gradient but for rounding.
    silent = stored < 1e-9
    assert silent.sum() == 22
    assert all(names[i].endswith(".bias") for i in np.flatnonzero(silent))
    assert found[silent].max() < (1e-12 if dtype == FLOAT64 else 1e-5)
    rtol, atol = (1e-9, 0.0) if dtype == FLOAT64 else (2e-4, 1e-7)
    np.testing.assert_allclose(found[~silent], stored[~silent], rtol=rtol, atol=atol)


def test_counts(golden):
    model = golden.model(FLOAT32)
    assert sum(p.numel() for p in model.parameters()) == 5_739_009
    shapes, unused = golden.shapes(), {str(n) for n in golden.values["unused"]}
    parameters = {str(n) for n in golden.values["grad_names"]} | unused
    assert len(shapes) == 401
    assert len(unused) == 62
    assert sum(int(np.prod(shapes[name])) for name in parameters) == 7_012_554
