"""`kmunet verify RUN`: replay the first steps of a training; does it reproduce?

RUN is a model folder (models/busi) with a receipt. The recorded parameters are run on
the data that lie here now, divided as then; losses are compared bit by bit.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmunet.errors import CheckpointError, DataError, TrainingStoppedError

if TYPE_CHECKING:
    from kmunet.config import Params
    from kmunet.data.store import PackedSet
    from kmunet.training.reporter import Pictures, Progress, Reporter
    from pipelines.paths import Paths
    from pipelines.receipt import Receipt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("folder", metavar="RUN", help="a model folder: models/busi")


def run(arguments: argparse.Namespace) -> int:
    """Replay and print the verdict; 0 where the losses are the same, else 1."""
    from kmunet.config import parse_params
    from pipelines.paths import Paths
    from pipelines.receipt import read_receipt
    from pipelines.train import receipt

    then = read_receipt(Path(arguments.folder))
    if then.budget:
        raise CheckpointError(
            f"{arguments.folder}: trained within a budget of {then.budget}, which its "
            "schedule followed: there are no epochs to replay"
        )
    params = parse_params(then.params, f"{arguments.folder}: receipt")
    paths = Paths(Path.cwd(), then.dataset)
    with tempfile.TemporaryDirectory(prefix="kmunet-split-") as folder:
        packed = open_divided(params, paths, Path(folder, "split"))
        now = receipt(params, then.dataset, packed, [])
        for difference in then.differences(now):
            print(f"differs: {difference}")
        losses = replay(params, paths, packed, len(then.losses))
    print(verdict(then, losses))
    return 0 if losses == then.losses else 1


def open_divided(params: "Params", paths: "Paths", folder: Path) -> "PackedSet":
    """The data as these parameters divide them: data/splits, or made in `folder`.

    A fold of a comparison or a sweep has never been in data/splits.
    """
    from kmunet.data.store import open_packed, open_prepared
    from pipelines.folds import divided

    with suppress(DataError):
        packed = open_packed(paths.prepared, paths.splits, params.train.size)
        if packed.division["settings"] == params.split.model_dump(mode="json"):
            return packed
    return divided(open_prepared(paths.prepared), params, folder)


def verdict(then: "Receipt", losses: list[float]) -> str:
    """In words, with the first two values that differ."""
    count = len(then.losses)
    for step, (old, new) in enumerate(zip(then.losses, losses, strict=False), 1):
        if old != new:
            return (
                f"{then.dataset}: does not reproduce: the loss of step {step} was "
                f"{old!r} and is {new!r} (relative difference "
                f"{abs(new - old) / max(abs(old), 1e-300):.1e}){_elastic(then)}"
            )
    if len(losses) < count:
        raise CheckpointError(f"only {len(losses)} of {count} steps could be replayed")
    return f"{then.dataset}: reproduces: the first {count} losses are the same bits"


def _elastic(then: "Receipt") -> str:
    """Why a training of as many workers as there was room for may differ."""
    workers = then.params["train"]["workers"]
    if isinstance(workers, int):
        return ""
    return (
        f"; train.workers is {list(workers)}: another number of workers than then "
        "rounds otherwise"
    )


def replay(
    params: "Params", paths: "Paths", packed: "PackedSet", steps: int
) -> list[float]:
    """The losses of the first steps, trained as the stage does, and left at that."""
    from pipelines.ray_backend import run_on_ray
    from pipelines.ray_cluster import shutdown
    from pipelines.train import check_before_start, cluster_for, worker_config

    os.environ.pop("RAY_ADDRESS", None)  # its files are on this machine
    check_before_start(params, packed)
    splits = {"folder": str(packed.splits), "content": None}
    config = worker_config(params, paths, packed) | {"splits": splits, "steps": steps}
    with tempfile.TemporaryDirectory(prefix="kmunet-verify-") as folder:
        cluster = replace(
            cluster_for(params, paths, packed), storage=Path(folder), name="replay"
        )
        try:
            with run_on_ray(replay_worker, config, cluster, lambda _: None) as saved:
                return _losses(saved)[:steps]
        except TrainingStoppedError:
            return _losses(_newest(Path(folder) / "replay"))
        finally:
            shutdown()


def replay_worker(config: dict[str, Any], reporter: "Reporter") -> None:
    """`train_worker`, told to stop after `config["steps"]` steps."""
    from pipelines.train import train_worker

    train_worker(config, _FirstSteps(reporter, config["steps"]))


class _FirstSteps:
    """A Reporter that starts from the beginning and stops after some steps."""

    def __init__(self, reporter: "Reporter", steps: int) -> None:
        self._reporter, self._left = reporter, steps
        self.rank, self.world_size = reporter.rank, reporter.world_size

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self._reporter.report(metrics, checkpoint)

    def checkpoints(self) -> Iterable[AbstractContextManager[Path]]:
        return ()

    def progress(self, progress: "Progress") -> None:
        """Nobody looks."""

    def wants_pictures(self, epoch: int) -> bool:
        return False

    def pictures(self, pictures: "Pictures") -> None:
        """Nobody looks."""

    def should_stop(self) -> bool:
        self._left -= 1
        return self._left <= 0 or self._reporter.should_stop()


def _newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint*/state.json")).parent


def _losses(checkpoint: Path) -> list[float]:
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    found: list[float] = state["first_losses"]
    return found
