"""Overlap of several classes while training, against the evaluation's own counts."""

import numpy as np
import pytest
import torch

from kmunet.evaluation import score_labels
from kmunet.training.overlap import RunningOverlap, overlap

NAMES = ("one", "two", "three")


def _batch(absent=()):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((5, 4, 9, 11), generator=generator)
    target = torch.randint(4, (5, 1, 9, 11), generator=generator).float()
    for value in absent:
        logits[:, value] = -50.0
        target[target == value] = 0.0
    return logits, target


@pytest.mark.parametrize("absent", [(), (2,), (1, 2, 3)])
def test_training_and_evaluation_agree(absent):
    logits, target = _batch(absent)
    iou, dice = overlap(logits, target, 0.5)
    predicted = logits.argmax(1).numpy().astype(np.uint8)
    truth = target[:, 0].numpy().astype(np.uint8)
    rows = [score_labels(p, t, NAMES) for p, t in zip(predicted, truth, strict=True)]
    assert iou.tolist() == pytest.approx([row["iou"] for row in rows])
    assert dice.tolist() == pytest.approx([row["dice"] for row in rows])


def test_the_mean_is_over_images():
    logits, target = _batch()
    running = RunningOverlap(torch.device("cpu"))
    for part in (slice(0, 2), slice(2, 5)):
        running.add(logits[part], target[part], torch.tensor(1.0), 0.5)
    iou, dice = overlap(logits, target, 0.5)
    found = running.compute()
    assert found["iou"] == pytest.approx(iou.mean().item())
    assert found["dice"] == pytest.approx(dice.mean().item())
    assert found["images"] == 5
