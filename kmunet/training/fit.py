"""The training loop: load, step, validate, checkpoint; one epoch at a time."""

import tempfile
import time
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from kmunet.data.sampler import GlobalBatchSampler
from kmunet.device import choose_device
from kmunet.errors import TrainingError
from kmunet.ops import use_backend
from kmunet.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
from kmunet.training.determinism import keep_freed_memory, make_deterministic
from kmunet.training.losses import LOSSES
from kmunet.training.optimizer import build_optimizer, set_learning_rate
from kmunet.training.overlap import RunningOverlap
from kmunet.training.reporter import Progress, Reporter

if TYPE_CHECKING:
    from kmunet.config import TrainParams


class Samples(Sized, Protocol):
    """A map from (epoch, position) to {"image": uint8 (3,S,S), "mask": uint8 (S,S)}."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TrainingData:
    """What is learnt from, what is selected on, and the scaling of inputs in 0-1."""

    train: Samples
    validation: Samples
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fit(
    model: nn.Module, data: TrainingData, params: "TrainParams", reporter: Reporter
) -> TrainingState:
    """Train `model` in place, from the reporter's latest checkpoint if there is one.

    Every rank calls this. `params.batch_size` is global. Raises TrainingError where
    the loss stops being finite or the data do not fill one batch.
    """
    make_deterministic(params.seed, params.threads)
    keep_freed_memory()
    with use_backend(params.scan_backend):
        return _Run(model, data, params, reporter).train()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        params: "TrainParams",
        reporter: Reporter,
    ) -> None:
        self.params, self.reporter, self.data = params, reporter, data
        self.device = choose_device(params.device)
        self.model = model.to(self.device)
        self.optimizer = build_optimizer(self.model, params)
        self.loss = LOSSES[params.loss]
        self.state = TrainingState()
        self.best: dict[str, Tensor] = {}
        self.batches = len(data.train) // params.batch_size
        if self.batches == 0:
            raise TrainingError(
                f"train.batch_size {params.batch_size} is more than the "
                f"{len(data.train)} training images: lower it or add images"
            )

    def train(self) -> TrainingState:
        with self.reporter.latest_checkpoint() as folder:
            if folder is not None:
                self.state, self.best = load_checkpoint(
                    folder, self.model, self.optimizer
                )
        wrapped = self.model
        if self.reporter.world_size > 1:
            wrapped = DistributedDataParallel(self.model)
        for epoch in range(self.state.epoch, self.params.epochs):
            self._epoch(wrapped, epoch)
        return self.state

    def _epoch(self, wrapped: nn.Module, epoch: int) -> None:
        set_learning_rate(self.optimizer, epoch, self.params.epochs, self.params.min_lr)
        train = self._learn(wrapped, epoch)
        validation = self._validate()
        metrics = {
            "epoch": epoch + 1.0,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": train["loss"],
            "train_iou": train["iou"],
            "val_loss": validation["loss"],
            "val_iou": validation["iou"],
            "val_dice": validation["dice"],
        }
        self.state.epoch = epoch + 1
        self.state.history.append(metrics)
        if validation["iou"] > self.state.best_iou:
            self.state.best_iou, self.state.best_epoch = validation["iou"], epoch + 1
            self.best = weights_of(self.model)
        self._report(metrics)

    def _report(self, metrics: dict[str, float]) -> None:
        if self.reporter.rank != 0:
            self.reporter.report(metrics, None)
            return
        with tempfile.TemporaryDirectory(prefix="kmunet-checkpoint-") as folder:
            save_checkpoint(
                Path(folder), self.model, self.best, self.optimizer, self.state
            )
            self.reporter.report(metrics, Path(folder))

    def _learn(self, wrapped: nn.Module, epoch: int) -> dict[str, float]:
        wrapped.train()
        overlap = RunningOverlap(self.device)
        start = time.perf_counter()
        for step, batch in enumerate(self._batches(epoch, train=True), 1):
            image, mask = self._to_device(batch)
            with self._reduced():
                logits = wrapped(image)
            logits = logits.float()
            loss = self.loss(logits, mask)
            self._check_finite(loss, epoch, step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            overlap.add(logits, mask, loss.detach(), self.params.threshold)
            rate = step * self.params.batch_size / (time.perf_counter() - start)
            self._progress(epoch, step, overlap, rate)
        return overlap.compute()

    def _reduced(self) -> torch.autocast:
        """Autocast to train.precision: weights, loss, scan, KAN stay in float32."""
        on = self.params.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.model.eval()
        overlap = RunningOverlap(self.device)
        for batch in self._batches(0, train=False):
            if not len(batch["image"]):  # fewer images than ranks in the last batch
                continue
            image, mask = self._to_device(batch)
            logits = self.model(image)
            loss = self.loss(logits, mask)
            overlap.add(logits, mask, loss, self.params.threshold)
        return overlap.compute()

    def _batches(self, epoch: int, train: bool) -> DataLoader[dict[str, Tensor]]:
        samples = self.data.train if train else self.data.validation
        sampler = GlobalBatchSampler(
            len(samples),
            self.params.batch_size,
            self.params.seed,
            self.reporter.rank,
            self.reporter.world_size,
            shuffle=train,
            drop_last=train,
        )
        sampler.set_epoch(epoch)
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=self.params.loader_workers,
            collate_fn=getattr(samples, "collate", None),
            pin_memory=self.device.type == "cuda",
        )

    def _to_device(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        image = batch["image"].to(self.device, non_blocking=True)
        mask = batch["mask"].to(self.device, non_blocking=True)
        mean = torch.tensor(self.data.mean, device=self.device).view(1, -1, 1, 1)
        std = torch.tensor(self.data.std, device=self.device).view(1, -1, 1, 1)
        return (image.float() / 255 - mean) / std, mask.unsqueeze(1).float()

    def _check_finite(self, loss: Tensor, epoch: int, step: int) -> None:
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {epoch + 1}, step {step}: "
                "lower train.lr or train.kan_lr"
            )

    def _progress(
        self, epoch: int, step: int, overlap: RunningOverlap, rate: float
    ) -> None:
        if self.reporter.rank != 0:
            return
        iou, _, loss, images = overlap.sums.tolist()
        self.reporter.progress(
            Progress(
                epoch=epoch + 1,
                epochs=self.params.epochs,
                step=epoch * self.batches + step,
                steps=self.params.epochs * self.batches,
                loss=loss / images,
                iou=iou / images,
                images_per_second=rate,
            )
        )
