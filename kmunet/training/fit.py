"""The training loop: load, step, validate, checkpoint."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kmunet.data.sampler import shares_of
from kmunet.device import choose_device
from kmunet.errors import CheckpointError, TrainingError, TrainingStoppedError
from kmunet.ops import use_backend
from kmunet.training.averaging import WeightAverage
from kmunet.training.batches import Batch, Batches, TrainingData
from kmunet.training.checkpoint import (
    Parts,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
from kmunet.training.compiled import compiled
from kmunet.training.determinism import (
    keep_freed_memory,
    make_deterministic,
    seed_step,
)
from kmunet.training.kan_grid import OutsideShare, fit_grids, has_grids
from kmunet.training.losses import LOSSES
from kmunet.training.meter import Meter
from kmunet.training.optimizer import build_optimizer, set_learning_rate
from kmunet.training.overlap import RunningOverlap
from kmunet.training.overlap import overlap as scores
from kmunet.training.precision import Precision
from kmunet.training.ranks import (
    any_rank,
    copy_from_first,
    gather,
    share_gradients,
    without_sharing,
)
from kmunet.training.reporter import Pictures, Reporter
from kmunet.training.space import (
    TEMPORARY,
    checkpoint_bytes,
    remove_left_over,
    told_if_full,
)
from kmunet.training.stopping import Budget, Stopping
from kmunet.training.supervision import supervise
from kmunet.training.sync_batch_norm import synchronise_batch_norm

if TYPE_CHECKING:
    from kmunet.config import TrainParams

logger = logging.getLogger("kmunet.training")

SHOWN = 4  # validation images, at most
RECORDED = 16  # losses of the first steps, for whoever wants to verify a run
REMEDY = "lower train.lr or train.kan_lr, or set train.clip"


def fit(
    model: nn.Module,
    data: TrainingData,
    params: "TrainParams",
    reporter: Reporter,
    budget: Budget | None = None,
) -> TrainingState:
    """Train `model` in place, from the reporter's latest checkpoint if there is one.

    Every rank calls this. `params.batch_size` is global: any number of ranks sees the
    same batches, normalised by the same statistics. A `budget` ends the training and
    leads its schedule; it is for one rank. Raises TrainingError where the
    loss stops being finite or the data do not fill one batch, TrainingStoppedError
    once a checkpoint is saved after the reporter was told to stop.
    """
    if budget is not None and reporter.world_size > 1:
        raise ValueError("a budget is for one rank: several would not agree on it")
    make_deterministic(params.seed, params.threads)
    keep_freed_memory()
    if reporter.rank == 0:
        remove_left_over()
    with use_backend(params.scan_backend):
        run = _Run(model, data, params, reporter, budget)
        with closing(run.batches):
            return run.train()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        params: "TrainParams",
        reporter: Reporter,
        budget: Budget | None,
    ) -> None:
        self.params, self.reporter, self.budget = params, reporter, budget
        self.device = choose_device(params.device)
        self.model = model.to(self.device)
        if reporter.world_size > 1:
            synchronise_batch_norm(self.model)
        average = params.ema_decay and WeightAverage(self.model, params.ema_decay)
        self.parts = Parts(
            self.model,
            build_optimizer(self.model, params),
            average or None,
            Precision(params.precision, self.device),
        )
        self.loss = LOSSES[params.loss]
        self.batches = Batches(data, params, reporter, self.device)
        self.images = len(data.train), len(data.validation)
        self.epoch_steps = len(data.train) // params.batch_size
        self.best: dict[str, Tensor] = {}
        if self.epoch_steps == 0:
            raise TrainingError(
                f"train.batch_size {params.batch_size} is more than the "
                f"{len(data.train)} training images: lower it or add images"
            )

    def train(self) -> TrainingState:
        self.state = self._resumed()
        self.stopping = Stopping(self.params, self.state, self.budget)
        self.meter = Meter(
            self.reporter, self.params, self.model, self.stopping, self.images
        )
        shared = share_gradients(self.model, self.reporter.world_size)
        self.forward = compiled(shared, self.params.compile)
        self.shared = shared
        while (reason := self.stopping.reason(self.state)) is None or self.state.batch:
            self._epoch()
        logger.info("training ended: %s", reason)
        return self.state

    def _resumed(self) -> TrainingState:
        """From the newest checkpoint that is whole."""
        fault: CheckpointError | None = None
        for opened in self.reporter.checkpoints():
            try:
                with opened as folder:
                    state, self.best = load_checkpoint(folder, self.parts)
            except CheckpointError as error:
                logger.warning("%s; taking the one before", error)
                fault = error
                continue
            break
        else:
            if fault is not None:
                raise CheckpointError(
                    f"{fault}, nor is any before it: remove the run's checkpoints to "
                    "start from the beginning"
                ) from fault
            state = TrainingState()
        self._check_same(state)
        return state

    def _check_same(self, state: TrainingState) -> None:
        """Raise on all ranks where one could not read the checkpoint of the others."""
        place = torch.tensor([state.epoch, state.batch, state.step]).double()
        places = gather(place.to(self.device), self.reporter.world_size)
        if any(other != places[0] for other in places):
            read = ", ".join(
                f"rank {rank} the one after epoch {epoch:.0f}, step {step:.0f}"
                for rank, (epoch, _, step) in enumerate(places)
            )
            raise TrainingError(
                f"the workers read different checkpoints ({read}): see to it that "
                "every machine can read all of them"
            )

    def _epoch(self) -> None:
        train = self._learn()
        with self._selected_weights():
            validation = self._validate()
            epoch = self.state.epoch + 1
            if not isfinite(validation["loss"]):  # as the last step left the weights
                raise TrainingError(
                    f"the validation loss of epoch {epoch} is not finite: {REMEDY}"
                )
            if validation["iou"] > self.state.best_iou:
                self.state.best_iou, self.state.best_epoch = validation["iou"], epoch
                self.best = weights_of(self.model)
        metrics = {
            "epoch": float(epoch),
            "lr": self.state.lr,
            "train_loss": train["loss"],
            "train_iou": train["iou"],
            "val_loss": validation["loss"],
            "val_iou": validation["iou"],
            "val_dice": validation["dice"],
            "kan_outside": validation["kan_outside"],
        }
        self.state.epoch, self.state.batch, self.state.sums = epoch, 0, []
        self.state.history.append(metrics)
        self._save(metrics, self.stopping.save_now(self.state))

    def _learn(self) -> dict[str, float]:
        """What is left of the epoch, up to a budget; the metrics of all of it.

        Nothing is left where it was stopped after the step that spent the budget.
        """
        self.model.train()
        state, overlap = self.state, RunningOverlap(self.device)
        updates = self.params.grid_updates if has_grids(self.model) else 0
        if state.epoch < updates and not state.batch:
            image, _ = next(self.batches.train(state.epoch))
            fit_grids(self.model, image, self.reporter.world_size)
            copy_from_first(self.model)
            if self.parts.average is not None:
                # Between the coefficients of two grids there is no function.
                self.parts.average.restart()
        overlap.restore(state.sums, self.reporter.rank, self.reporter.world_size)
        self.meter.begin()
        ended = self.stopping.reason(state) is not None
        left = () if ended else self.batches.train(state.epoch, state.batch)
        for image, mask in self.meter.watched(left):
            stop = self._step(image, mask, overlap)
            state.step, state.batch = state.step + 1, state.batch + 1
            self.meter.show(state, overlap, image)
            if stop:
                self._save_within(overlap)
                raise TrainingStoppedError(
                    f"stopped in epoch {state.epoch + 1} after step {state.step}, and "
                    "saved: the same command goes on from there"
                )
            if state.spent or self.stopping.out_of_steps(state):
                break
            every = self.params.checkpoint_steps
            if every and state.step % every == 0 and state.batch < self.epoch_steps:
                self._save_within(overlap)
        return overlap.compute()

    def _step(self, image: Tensor, mask: Tensor, overlap: RunningOverlap) -> bool:
        """One step of the optimizer; whether all ranks are to stop after it."""
        state, params = self.state, self.params
        done = (state.batch + 1) / self.epoch_steps
        spent = self.stopping.share(state)
        set_learning_rate(self.parts.optimizer, params, state.epoch, done, spent)
        state.lr = self.parts.optimizer.param_groups[0]["lr"]
        seed_step(params.seed, state.step, self.reporter.rank)
        self.parts.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        pieces = self._pieces(image, mask)
        for place, (part, truth) in enumerate(pieces, 1):
            last = place == len(pieces)
            with nullcontext() if last else without_sharing(self.shared):
                with self.parts.precision.autocast():
                    outputs = self.forward(part)
                logits, loss = supervise(self.loss, outputs, truth)
                share = len(part) / len(image)
                self.parts.precision.backward(loss * (share * self._part(image)))
            total += loss.detach() * share
            overlap.add(logits, truth, loss.detach(), params.threshold)
        stop = self._agree(total)
        if state.step < RECORDED:
            state.first_losses.append(self._of_all_ranks(total, image))
        self.parts.precision.step(self.parts.optimizer, self.model, params.clip)
        if self.parts.average is not None:
            self.parts.average.update()
        return stop

    def _pieces(self, image: Tensor, mask: Tensor) -> list[Batch]:
        """This rank's share of each part of an accumulated step."""
        params, reporter = self.params, self.reporter
        place = reporter.rank, reporter.world_size
        shares = shares_of(params.batch_size, params.accumulate, *place)
        sizes = [len(share) for share in shares]
        parts = torch.split(image, sizes), torch.split(mask, sizes)
        return list(zip(*parts, strict=True))

    def _part(self, image: Tensor) -> float:
        """This rank's images over an even share: gradients are means over ranks."""
        return len(image) * self.reporter.world_size / self.params.batch_size

    def _of_all_ranks(self, loss: Tensor, image: Tensor) -> float:
        """The global batch's loss from that of this rank's share."""
        own = (loss.double() * self._part(image)).view(1)
        return fmean(other for (other,) in gather(own, self.reporter.world_size))

    def _agree(self, loss: Tensor) -> bool:
        """Before any weight is changed: raise on all ranks, or stop on all, or none."""
        wrong, stop, self.state.spent = any_rank(
            ~torch.isfinite(loss),
            self.reporter.should_stop(),
            self.stopping.out_of_time(self.state),
            device=self.device,
        )
        if wrong:
            raise TrainingError(
                f"the loss is not finite in epoch {self.state.epoch + 1}, step "
                f"{self.state.batch + 1}: {REMEDY}"
            )
        return stop

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.model.eval()
        overlap = RunningOverlap(self.device)
        outside = OutsideShare(self.model, self.device)
        for number, (image, mask) in enumerate(self.batches.validation()):
            watched = number < self.params.accumulate  # a batch, in its parts
            with outside.watching() if watched else nullcontext():
                logits = self.model(image)
            overlap.add(logits, mask, self.loss(logits, mask), self.params.threshold)
            if number == 0:
                self._show(image, mask, logits)
        shares = gather(outside.sums, self.reporter.world_size)
        share = sum(row[0] for row in shares) / max(1.0, sum(row[1] for row in shares))
        return overlap.compute() | {"kan_outside": share}

    def _show(self, image: Tensor, mask: Tensor, logits: Tensor) -> None:
        """The first images with truth and prediction, where somebody looks."""
        epoch = self.state.epoch + 1
        if self.reporter.rank or not self.reporter.wants_pictures(epoch):
            return
        logits, mask = logits[:SHOWN], mask[:SHOWN]
        classes = max(1, logits.shape[1] - 1)
        predicted = logits.argmax(1)
        if classes == 1:
            predicted = torch.sigmoid(logits[:, 0]) > self.params.threshold
        self.reporter.pictures(
            Pictures(
                epoch,
                self.batches.pixels(image[:SHOWN]).cpu().numpy(),
                mask[:, 0].byte().cpu().numpy(),
                predicted.byte().cpu().numpy(),
                scores(logits, mask, self.params.threshold)[0].cpu().numpy(),
                classes,
            )
        )

    @contextmanager
    def _selected_weights(self) -> Iterator[None]:
        """Validated, and kept if best: the average where there is one."""
        average = self.parts.average
        with average.applied() if average else nullcontext():
            yield

    def _save_within(self, overlap: RunningOverlap) -> None:
        self.state.sums = gather(overlap.sums, self.reporter.world_size)
        self._save({"step": float(self.state.step)}, True)

    def _save(self, metrics: dict[str, float], files: bool) -> None:
        self.state.seconds = self.stopping.seconds()
        if self.reporter.rank != 0 or not files:
            self.reporter.report(metrics, None)
            return
        needed = checkpoint_bytes(self.model, self.params)
        with (
            self.stopping.paused(),
            tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder,
        ):
            with told_if_full(Path(tempfile.gettempdir()), needed):
                save_checkpoint(Path(folder), self.parts, self.best, self.state)
            self.reporter.report(metrics, Path(folder))
