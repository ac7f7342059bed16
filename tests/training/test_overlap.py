"""The running IoU and Dice against MONAI, and the rule for empty images."""

import pytest
import torch
from monai.metrics import compute_dice, compute_iou

from kmunet.training.overlap import RunningOverlap


def _add(logits, target, loss=0.5):
    overlap = RunningOverlap(torch.device("cpu"))
    overlap.add(logits, target, torch.tensor(loss), 0.5)
    return overlap.compute()


def test_means_over_images_are_monais():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((5, 1, 20, 30), generator=generator)
    target = (torch.rand((5, 1, 20, 30), generator=generator) > 0.6).float()
    predicted = (torch.sigmoid(logits) > 0.5).float()
    found = _add(logits, target)
    assert found["iou"] == pytest.approx(compute_iou(predicted, target).mean().item())
    assert found["dice"] == pytest.approx(compute_dice(predicted, target).mean().item())


def test_empty_and_predicted_empty_is_right_and_a_false_alarm_is_wrong():
    empty = torch.zeros((1, 1, 8, 8))
    assert _add(torch.full_like(empty, -9.0), empty)["iou"] == 1.0
    alarm = torch.full_like(empty, -9.0)
    alarm[..., 3, 3] = 9.0
    assert _add(alarm, empty)["iou"] == 0.0


def test_batches_of_different_size_weigh_by_image():
    overlap = RunningOverlap(torch.device("cpu"))
    truth = torch.ones((3, 1, 4, 4))
    overlap.add(torch.full_like(truth, 9.0), truth, torch.tensor(1.0), 0.5)
    overlap.add(torch.full((1, 1, 4, 4), -9.0), truth[:1], torch.tensor(5.0), 0.5)
    found = overlap.compute()
    assert found == {"iou": 0.75, "dice": 0.75, "loss": 2.0, "images": 4.0}
