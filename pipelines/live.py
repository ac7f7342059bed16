"""Who looks on while a training runs: its curves, pictures and load, sent to MLflow.

Nothing here changes a result, so it is set by the environment: KMUNET_LIVE=off sends
nothing, KMUNET_OVERLAYS is how many times a training shows pictures (10; 0: never).
"""

import base64
import io
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kmunet.config import Params
from kmunet.data.digest import sha256_of
from kmunet.data.store import PackedSet
from kmunet.errors import ConfigError, TrainingStoppedError
from kmunet.training.reporter import Pictures, Progress
from pipelines.evidence import flatten, git_commit, registered_name, used_params
from pipelines.onlookers import Onlookers
from pipelines.outbox import Outbox
from pipelines.paths import Paths, state_dir
from pipelines.spool import Record

if TYPE_CHECKING:
    from pipelines.tracking_live import MLflowSink

EVERY = 10.0  # seconds between two looks at the running step, and at the machine
PATIENCE = 30.0  # seconds at the end, for what MLflow has not taken yet


class LiveRun:
    """One training, as the driver sees it. No method waits."""

    def __init__(
        self, state: Path, header: Record, ids: Sequence[str], pictures_every: int
    ) -> None:
        self._every = pictures_every
        self._ids = ids
        self._spoken = 0.0
        self._tags: dict[str, str] = {}
        folder = state / "mlflow-pending"
        # A name of its own: one training may be interrupted several times.
        file = folder / f"{header['training']}-{uuid.uuid4().hex[:8]}.jsonl"
        self._outbox = Outbox(file, header, _LateSink(state, folder), _say)
        self._load = _Load(self._outbox)

    def onlookers(self) -> Onlookers:
        return Onlookers(self.progress, self.report, self.pictures, self._every)

    def progress(self, progress: Progress) -> None:
        """The running step, now and then."""
        now = time.monotonic()
        if now - self._spoken < EVERY:
            return
        self._spoken = now
        values = {
            "step/loss": progress.loss,
            "step/iou": progress.iou,
            "step/images_per_second": progress.images_per_second,
            "step/memory_megabytes": progress.memory / 1e6,
        }
        if progress.seconds_left is not None:
            values["step/seconds_left"] = progress.seconds_left
        if progress.peak_share is not None:
            values["step/percent_of_measured_peak"] = 100 * progress.peak_share
        self._put("metrics", step=progress.step, values=values)

    def report(self, metrics: Mapping[str, float]) -> None:
        """The end of an epoch; a checkpoint within one says nothing."""
        if "epoch" in metrics:
            values = {key: value for key, value in metrics.items() if key != "epoch"}
            step = int(metrics["epoch"])
            self._put("metrics", step=step, values=values, keep=True)

    def pictures(self, pictures: Pictures) -> None:
        """Each image beside itself with outlines: truth green, prediction magenta."""
        for place in range(len(pictures.images)):
            name = self._ids[place] if place < len(self._ids) else ""
            key = re.sub(r"[^A-Za-z0-9_\-. ]+", "_", f"validation {place + 1} {name}")
            png = base64.b64encode(_overlay(pictures, place, name)).decode()
            self._put("image", step=pictures.epoch, key=key.strip(), png=png)

    def trained(self, weights: Path) -> None:
        """What came of it: `register` finds the run by this."""
        self._tags = {"checkpoint_sha256": sha256_of(weights)}

    def __enter__(self) -> "LiveRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = isinstance(error, TrainingStoppedError | KeyboardInterrupt)
        status = "KILLED" if stopped else "FINISHED" if error is None else "FAILED"
        self._load.close()
        self._put("end", status=status, tags=self._tags, keep=True)
        if self._outbox.close(PATIENCE):
            return
        _say("not all of this training has arrived there; the next one sends the rest")

    def _put(self, kind: str, **values: Any) -> None:
        moment = round(time.time() * 1000)
        self._outbox.put({"kind": kind, "time": moment, **values})


class Unseen(AbstractContextManager["Unseen"]):
    """A training at which nobody looks."""

    def onlookers(self) -> Onlookers:
        return Onlookers()

    def trained(self, weights: Path) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def live_run(
    params: Params, paths: Paths, packed: PackedSet, name: str
) -> LiveRun | Unseen:
    """Of the training `name`, in the experiment that `register` uses."""
    if not _is_wanted():
        return Unseen()
    used = used_params(params, paths.dataset)
    del used["evaluate"]  # not known to matter yet; `register` adds it
    header = {
        "experiment": registered_name(params, paths.dataset),
        "training": name,
        "params": {key: str(value) for key, value in flatten(used).items()},
        "tags": {
            "training": name,
            "dataset": paths.dataset,
            "data_fingerprint": packed.fingerprint,
            "git_commit": git_commit(paths.root) or "unknown",
        },
        "time": round(time.time() * 1000),
        "run_id": "",
    }
    ids = [packed.ids[int(row)] for row in packed.indices("validation")[:4]]
    every = pictures_every(params.train.epochs)
    return LiveRun(state_dir(paths.root), header, ids, every)


def _is_wanted() -> bool:
    """Unless KMUNET_LIVE is off."""
    value = os.environ.get("KMUNET_LIVE", "on").lower()
    if value not in ("on", "off", "1", "0"):
        raise ConfigError(f"KMUNET_LIVE is '{value}': set it to on or off")
    return value in ("on", "1")


def pictures_every(epochs: int) -> int:
    """Epochs between pictures, so that a training shows KMUNET_OVERLAYS; 0: none."""
    value = os.environ.get("KMUNET_OVERLAYS", "10")
    if not value.isdigit():
        raise ConfigError(
            f"KMUNET_OVERLAYS is '{value}': set it to a number, 0 for none"
        )
    return -(-epochs // int(value)) if int(value) else 0


class _LateSink:
    """MLflow, imported when the first record is sent: that takes seconds."""

    def __init__(self, state: Path, folder: Path) -> None:
        self._places = state, folder
        self._sink: MLflowSink | None = None

    def open(self, header: Record) -> Record:
        if self._sink is None:
            from pipelines.tracking_live import MLflowSink

            self._sink = MLflowSink(*self._places, _say)
        return self._sink.open(header)

    def send(self, header: Record, records: Sequence[Record]) -> None:
        assert self._sink is not None
        self._sink.send(header, records)


class _Load:
    """What the driver's machine does, every few seconds, as MLflow's own monitor."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._over = outbox, threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(5.0)

    def _work(self) -> None:
        from pipelines.tracking_live import machine_load

        sample = machine_load()
        pause = 1.0  # a short training shows something too
        while not self._over.wait(pause):
            values, pause = sample(), EVERY
            moment = round(time.time() * 1000)
            self._outbox.put({"kind": "load", "time": moment, "values": values})


def _overlay(pictures: Pictures, place: int, name: str) -> bytes:
    from kmunet.report.contours import write_overlay

    file = io.BytesIO()
    write_overlay(
        file,
        pictures.images[place],
        pictures.truth[place],
        pictures.predicted[place],
        {"id": name, "iou": float(pictures.iou[place])},
        pictures.classes,
    )
    return file.getvalue()


def _say(message: str) -> None:
    print(f"warning: MLflow: {message}", file=sys.stderr, flush=True)
