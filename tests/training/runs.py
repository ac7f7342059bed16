"""Trainings that tests run in processes of their own, and kill."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from kmunet.config import TrainParams
from kmunet.models import build_model
from kmunet.training import LocalReporter, TrainingData, fit


class Squares:
    """Bright squares on noise; the sample depends on (epoch, position) alone."""

    def __init__(self, length, seed, size=32):
        self.length, self.seed, self.size = length, seed, size

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, position = key
        rng = np.random.default_rng([self.seed, position])
        size, side = self.size, self.size * 3 // 8
        image = rng.integers(0, 90, (3, size, size), dtype=np.uint8)
        mask = np.zeros((size, size), np.uint8)
        top, left = rng.integers(2, size // 2, 2)
        mask[top : top + side, left : left + side] = 1
        image[:, mask > 0] += 120
        if epoch % 2:
            image, mask = image[:, :, ::-1].copy(), mask[:, ::-1].copy()
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}

    def collate(self, items):
        if items:
            return torch.utils.data.default_collate(items)
        shape = (0, self.size, self.size)
        return {"image": torch.empty(0, 3, *shape[1:]), "mask": torch.empty(shape)}


def squares(size=32):
    mean, std = (0.3,) * 3, (0.25,) * 3
    return TrainingData(Squares(16, 1, size), Squares(6, 2, size), mean, std)


def small_model():
    torch.manual_seed(0)
    return build_model("km_unet", widths=(32, 40, 48))


class RankReporter(LocalReporter):
    """A LocalReporter of one rank among several."""

    def __init__(self, folder, rank, world_size):
        super().__init__(Path(folder), rank=rank, world_size=world_size)


def train_rank(rank, count, folder, params):
    """One rank's `fit`; rank 0 leaves the history and the weights.

    96 pixels: at 32, the deepest norms have 4 values a channel and turn rounding of
    1e-6 into 1e-3 within a step.
    """
    reporter = RankReporter(folder, rank, count)
    model = small_model()
    state = fit(model, squares(96), TrainParams(**params), reporter)
    if rank == 0:
        Path(folder, "history.json").write_text(json.dumps(state.history))
        Path(folder, "losses.json").write_text(json.dumps(state.first_losses))
        torch.save(model.state_dict(), Path(folder, "final.pt"))


def train_alone(folder, params):
    """As a command that can be killed: says each step that it has done."""
    reporter = LocalReporter(Path(folder), lambda p: print(p.step, flush=True))
    model = small_model()
    state = fit(model, squares(), TrainParams(**params), reporter)
    Path(folder, "history.json").write_text(json.dumps(state.history))
    torch.save(model.state_dict(), Path(folder, "final.pt"))


if __name__ == "__main__":
    train_alone(sys.argv[1], json.loads(sys.argv[2]))
