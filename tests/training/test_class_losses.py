"""Losses of several classes against MONAI's, torch's and their own definitions."""

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss

from kmunet.training import class_losses
from kmunet.training.losses import LOSSES

CHANNELS = 4  # the background and three classes


def _batch(seed=0, images=3, size=(17, 23)):
    generator = torch.Generator().manual_seed(seed)
    shape = (images, CHANNELS, *size)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.randint(CHANNELS, (images, 1, *size), generator=generator)
    return logits, target.double()


def test_soft_dice_is_monais_without_the_background():
    logits, target = _batch()
    monai = DiceLoss(
        softmax=True, to_onehot_y=True, include_background=False,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    found = class_losses.soft_dice(logits, target)
    torch.testing.assert_close(found, monai(logits, target))


def test_bce_dice_is_half_cross_entropy_plus_dice():
    logits, target = _batch(1)
    expected = 0.5 * F.cross_entropy(logits, target[:, 0].long())
    expected = expected + class_losses.soft_dice(logits, target)
    torch.testing.assert_close(LOSSES["bce_dice"](logits, target), expected)


def test_lovasz_of_hard_errors_is_the_mean_of_one_minus_iou():
    """Where probabilities are 0 and 1, the extension is the set function (prop. 1)."""
    _, target = _batch(2, images=1)
    _, predicted = _batch(3, images=1)
    logits = 80 * class_losses.one_hot(predicted, CHANNELS).double()
    losses = []
    for value in range(CHANNELS):
        truth, found = target == value, predicted == value
        losses.append(1 - (truth & found).sum() / (truth | found).sum())
    expected = torch.stack(losses).mean().double()
    torch.testing.assert_close(LOSSES["lovasz"](logits, target), expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_a_mean_over_images(name):
    logits, target = _batch(4, images=4)
    parts = [LOSSES[name](logits[n : n + 2], target[n : n + 2]) for n in (0, 2)]
    whole = LOSSES[name](logits, target)
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_prefers_the_truth_and_learns_each_class(name):
    _, target = _batch(5, images=2, size=(12, 12))
    right = 12 * class_losses.one_hot(target, CHANNELS).double()
    shifted = 12 * class_losses.one_hot((target + 1) % CHANNELS, CHANNELS).double()
    assert LOSSES[name](right, target) < LOSSES[name](right * 0, target)
    assert LOSSES[name](right * 0, target) < LOSSES[name](shifted, target)
    logits = (right * 0).requires_grad_()
    LOSSES[name](logits, target).backward()
    assert (logits.grad.abs().amax((0, 2, 3))[1:] > 0).all()
    empty = torch.zeros_like(target)
    assert LOSSES[name](right * 0, empty).isfinite()


@pytest.mark.parametrize("name", ["bce_dice", "lovasz"])
def test_gradients_are_right(name):
    logits, target = _batch(6, images=2, size=(4, 5))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target), (logits,))


def test_cross_entropy_is_torchs_with_its_gradient():
    logits, target = _batch(5)
    logits.requires_grad_()
    expected = F.cross_entropy(logits, target[:, 0].long())
    found = class_losses.cross_entropy(logits, target)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_dice_ce_is_monais():
    logits, target = _batch(6)
    monai = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    expected = monai(logits, target)
    torch.testing.assert_close(LOSSES["dice_ce"](logits, target), expected)
