"""Trials as Ray tasks: one process each, with a share of the CPUs and GPUs."""

import math
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

import ray

from kmunet.errors import ConfigError, KMUNetError, TrainingStoppedError
from kmunet.training import LocalReporter, Progress
from pipelines.ray_cluster import connect, shutdown
from pipelines.sweep_trial import run_trial

Outcome = dict[str, Any]
OnEvent = Callable[[dict[str, Any]], None]
_BETWEEN = 2.0  # seconds between two words on progress
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Share:
    """What one trial asks of Ray; fractions put several on one core or GPU."""

    cpus: float
    gpus: float
    max_failures: int  # times that a lost process is started again


@ray.remote(num_cpus=0)
class Board:
    """Where trials post what happens, and the driver that they are to save and end."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stopping = False

    def post(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def take(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events

    def stop(self) -> None:
        self.stopping = True

    def is_stopping(self) -> bool:
        return self.stopping


class BoardReporter(LocalReporter):
    """Checkpoints in the trial's folder; epochs and progress to the driver's board."""

    def __init__(self, folder: Path, name: str, board: Any, told: Event) -> None:
        super().__init__(folder)
        self.name, self.board = name, board
        self._told, self._spoken = told, 0.0

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        super().report(metrics, checkpoint)
        if "epoch" in metrics:
            self.tell(metrics)

    def tell(self, row: dict[str, float]) -> None:
        """An epoch has ended, and is saved."""
        self.board.post.remote({"trial": self.name, "epoch": row})

    def progress(self, progress: Progress) -> None:
        if time.monotonic() - self._spoken > _BETWEEN:
            self._spoken = time.monotonic()
            self.board.post.remote({"trial": self.name, "progress": asdict(progress)})

    def should_stop(self) -> bool:
        return self._told.is_set()


def run_trials(
    jobs: Sequence[dict[str, Any]],
    share: Share,
    on_event: OnEvent,
    asked: Event,
) -> Iterator[tuple[str, Outcome]]:
    """Yield (name, outcome) as trials end; `status` is finished, failed or interrupted.

    Once `asked` is set, those that run save and end, and no other begins. A trial that
    fails leaves the others alone.
    """
    board = Board.remote()  # type: ignore[attr-defined]
    task = ray.remote(
        num_cpus=share.cpus, num_gpus=share.gpus, max_retries=share.max_failures
    )(attempt)
    names = {task.remote(job, board): job["name"] for job in jobs}
    told = False
    while names:
        done, _ = ray.wait(list(names), timeout=0.2)
        if asked.is_set() and not told:
            told = True
            ray.get(board.stop.remote())
        for event in ray.get(board.take.remote()):
            on_event(event)
        for ended in done:
            yield names.pop(ended), _outcome(ended)


@contextmanager
def leaving_ray() -> Iterator[None]:
    """Ray as it was before: ended, or left, if it was joined in between."""
    before = ray.is_initialized()
    try:
        yield
    finally:
        if not before:
            shutdown()


def begin(share: Share) -> None:
    """Connect, if that is not done, and see that a trial can ever start.

    Raises ConfigError where no node has what a trial asks for.
    """
    if not ray.is_initialized():
        connect(math.ceil(share.cpus))
    check_room(share, ray.nodes())


def check_room(share: Share, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError with the largest of Ray's nodes if none can hold a trial."""
    alive = [node for node in nodes if node["Alive"]]
    if not all(_lacking(share, node) for node in alive):
        return
    kinds = ("GPU", "CPU") if share.gpus else ("CPU",)
    largest = max(alive, key=lambda node: [_has(node, kind) for kind in kinds])
    raise ConfigError(
        f"{', '.join(_lacking(share, largest))}: a trial asks for {share.cpus:g} CPUs "
        f"and {share.gpus:g} GPUs of one node, and the largest of the Ray cluster, "
        f"{largest['NodeManagerAddress']}, has {_has(largest, 'CPU'):g} and "
        f"{_has(largest, 'GPU'):g}: lower it or add a larger node"
    )


def _lacking(share: Share, node: Mapping[str, Any]) -> list[str]:
    """The options that ask for more than the node has."""
    asked = {"--cpus": ("CPU", share.cpus), "--gpus": ("GPU", share.gpus)}
    return [name for name, (kind, n) in asked.items() if _has(node, kind) < n]


def _has(node: Mapping[str, Any], kind: str) -> float:
    return float(node["Resources"].get(kind, 0))


def attempt(job: dict[str, Any], board: Any) -> Outcome:
    """Runs on a worker: a trial to its outcome; no error leaves it."""

    def action(told: Event) -> dict[str, Any]:
        return run_trial(job, lambda place: BoardReporter(place, name, board, told))

    name = job["name"]
    return guarded(board, action)


def guarded(board: Any, action: Callable[[Event], dict[str, Any]]) -> Outcome:
    """What became of `action`, in plain values that travel."""
    if _is_stopping(board):
        return {"status": "interrupted"}
    try:
        with _listening(board) as told:
            return {"status": "finished", **action(told)}
    except TrainingStoppedError:
        return {"status": "interrupted"}
    except KMUNetError as error:
        return {"status": "failed", "message": str(error)}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        trace = traceback.format_exc()
        return {"status": "failed", "message": message, "traceback": trace}


def _is_stopping(board: Any) -> bool:
    """By a future: a task that waits in ray.get lends its CPUs to another one."""
    return bool(board.is_stopping.remote().future().result())


@contextmanager
def _listening(board: Any) -> Iterator[Event]:
    """An event that is set once the driver wants trials to save and end."""
    told, ended = Event(), Event()

    def listen() -> None:
        while not ended.wait(0.25):
            try:
                if _is_stopping(board):
                    told.set()
            except ray.exceptions.RayError:
                return

    threading.Thread(target=listen, name="listen", daemon=True).start()
    try:
        yield told
    finally:
        ended.set()


def _outcome(ended: Any) -> Outcome:
    try:
        found: Outcome = ray.get(ended)
    except ray.exceptions.RayError as error:
        return lost(str(error) or type(error).__name__)
    return found


def lost(said: str) -> Outcome:
    """What became of a trial that ended outside of `guarded`, by what Ray says of it.

    Below Ray's own line, that of a task, the cause is the last one. All of it is kept.
    """
    text = _COLOUR.sub("", said).strip()
    lines = text.splitlines()
    of_task = lines[0].startswith("ray::")
    message = lines[-1] if of_task else f"its process was lost: {lines[0]}"
    return {"status": "failed", "message": message, "traceback": text}
