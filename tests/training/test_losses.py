"""Losses against MONAI's and torch's own."""

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from kmunet.training.losses import LOSSES, bce_dice, soft_dice


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
