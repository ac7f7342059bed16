"""Losses against MONAI's and torch's own."""

import monai.losses.boundary_loss
import pytest
import torch
import torch.nn.functional as F
from monai.losses import BoundaryLoss, DiceLoss

from kmunet.training.binary_losses import bce_dice, soft_dice
from kmunet.training.losses import LOSSES


def _batch(seed=0, shape=(3, 1, 17, 23)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = (torch.rand(shape, generator=generator) > 0.7).double()
    return logits, target


def test_soft_dice_is_monais_dice_per_image():
    logits, target = _batch()
    truth = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target)
    torch.testing.assert_close(soft_dice(logits, target), truth)


def test_bce_dice_is_half_bce_plus_dice():
    logits, target = _batch(1)
    expected = 0.5 * F.binary_cross_entropy_with_logits(logits, target)
    expected = expected + soft_dice(logits, target)
    torch.testing.assert_close(bce_dice(logits, target), expected)


def test_an_empty_image_predicted_empty_costs_nothing():
    logits = torch.full((1, 1, 8, 8), -40.0)
    assert LOSSES["bce_dice"](logits, torch.zeros_like(logits)) < 1e-6


def test_gradients_are_right():
    logits, target = _batch(2, (2, 1, 4, 5))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bce_dice(x, target), (logits,))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_a_mean_over_images(name):
    """Else the mean over workers' shares would not be the loss of the batch."""
    logits, target = _batch(4, (4, 1, 9, 8))
    parts = [LOSSES[name](logits[n : n + 2], target[n : n + 2]) for n in (0, 2)]
    whole = LOSSES[name](logits, target)
    torch.testing.assert_close(torch.stack(parts).mean(), whole.double())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_prefers_the_truth(name):
    _, target = _batch(5, (2, 1, 16, 16))
    right = (target * 2 - 1) * 12
    assert LOSSES[name](right, target) < LOSSES[name](right * 0, target)
    assert LOSSES[name](right * 0, target) < LOSSES[name](-right, target)
    empty = torch.zeros_like(target)
    assert LOSSES[name](empty - 30, empty).isfinite()


def test_lovasz_of_hard_errors_is_one_minus_iou():
    """At logits of 1 for right and -1 for wrong, the hinge is 2 (1 - IoU)."""
    generator = torch.Generator().manual_seed(6)
    target = (torch.rand((1, 1, 12, 12), generator=generator) > 0.6).double()
    predicted = (torch.rand((1, 1, 12, 12), generator=generator) > 0.5).double()
    union = torch.maximum(target, predicted).sum()
    loss = 1 - (target * predicted).sum() / union
    found = LOSSES["lovasz"](predicted * 2 - 1, target)
    torch.testing.assert_close(found, 2 * loss)


def test_lovasz_gradients_are_right():
    logits, target = _batch(7, (2, 1, 4, 5))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES["lovasz"](x, target), (logits,))


def test_distances_of_a_target_are_computed_once(monkeypatch):
    """With deep supervision it comes at every depth."""
    computed = []
    edt = monai.losses.boundary_loss.distance_transform_edt

    def counted(mask):
        computed.append(mask)
        return edt(mask)

    monkeypatch.setattr("monai.losses.boundary_loss.distance_transform_edt", counted)
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(2, 1, 1, 16, 16, generator=generator) > 0.7).float()
    logits = torch.randn(1, 1, 16, 16, generator=generator)
    expected = [
        soft_dice(logits, t) + 0.01 * BoundaryLoss(sigmoid=True)(logits, t)
        for t in targets
    ]
    computed.clear()
    for place in (0, 0, 1, 1, 0):
        loss = LOSSES["boundary"](logits, targets[place])
        torch.testing.assert_close(loss, expected[place], rtol=0, atol=0)
    assert len(computed) == 3 * 2  # inside and outside
