"""A training in MLflow while it runs: curves, pictures, the machine's load.

All goes through an outbox: MLflow being slow, down or away costs the training nothing.
`register` goes on with the same run (`Registry.add`).
"""

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from kmunet.data.network import is_of_network, is_transient
from pipelines.outbox import reason
from pipelines.paths import state_dir
from pipelines.spool import Record, deliver_left
from pipelines.tracking_store import choose_store, experiment, hurry, open_run

_LOAD = "system/cpu_utilization_percentage"
_METRICS = 1000  # that MLflow takes at once
_KEY = 120  # characters: MLflow makes a file's name of it, with 100 more; 255 may be


def deliver_pending(root: Path) -> int:
    """Send what trainings could not; the number of them. Raises what MLflow raises."""
    state = state_dir(root)
    folder = state / "mlflow-pending"
    if not any(folder.glob("*.jsonl")):
        return 0
    return deliver_left(folder, MLflowSink(state))


def machine_load() -> Callable[[], dict[str, float]]:
    """A function that samples MLflow's system metrics, by the names it gives them."""
    # MLflow's own collection of them opens a store, wherever it may be by now.
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # no driver, or no nvidia-ml-py
        monitors.append(GPUMonitor())

    def sample() -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            found |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return {f"system/{key}": float(value) for key, value in found.items()}

    return sample


class MLflowSink:
    """`pipelines.spool.Heir`: a run for each training."""

    def __init__(
        self,
        state: Path,
        folder: Path | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """With `folder`: what earlier trainings left there is sent first.

        `say` is told what cannot be sent and keeps nothing else back.
        """
        self._state, self._folder, self._say = state, folder, say
        self._client: MlflowClient | None = None
        self._has_place = True  # for pictures
        self._known: dict[str, int] = {}  # runs, and the next sample of their load
        hurry()

    def open(self, header: Record) -> Record:
        if header["run_id"] in self._known:
            return header
        self._connect()
        if self._folder is not None:
            folder, self._folder = self._folder, None
            self._deliver_left(folder)
        run_id = self._run(header)
        self._known[run_id] = self._samples(run_id)
        return header | {"run_id": run_id}

    def send(self, header: Record, records: Sequence[Record]) -> None:
        assert self._client is not None
        run_id: str = header["run_id"]
        metrics: list[Metric] = []
        for record in records:
            if record["kind"] in ("metrics", "load"):
                metrics += self._metrics(run_id, record)
                continue
            self._log(run_id, metrics)
            metrics = []
            if record["kind"] == "image":
                self._picture(run_id, record)
            else:
                self._end(run_id, record)
        self._log(run_id, metrics)

    def leave(self, header: Record, moment: float) -> None:
        """Close the run of a training that was killed: it is none that runs."""
        client = self._connect()
        place = client.get_experiment_by_name(header["experiment"])
        if place is None:
            return
        running = f"{_of(header)} and attributes.status = 'RUNNING'"
        for run in client.search_runs([place.experiment_id], running):
            client.set_terminated(run.info.run_id, "KILLED", round(1000 * moment))

    def _connect(self) -> MlflowClient:
        if self._client is None:
            choose_store(self._state)
            self._client = MlflowClient()
        return self._client

    def _run(self, header: Record) -> str:
        """Its run; of a training that was interrupted and goes on, the same again."""
        assert self._client is not None
        return open_run(
            self._client,
            experiment(self._client, header["experiment"], self._state),
            f"{_of(header)} and attributes.status != 'FINISHED'",
            header["params"],
            start_time=header["time"],
            tags=resolve_tags(header["tags"]),
            run_name=header["training"],
        )

    def _deliver_left(self, folder: Path) -> None:
        try:
            deliver_left(folder, self)
        except Exception as error:  # whatever it is, it is not the present training's
            said = reason(error)
            self._say(f"{said}; what an earlier training left stays in {folder}")

    def _log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        assert self._client is not None
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(run_id, metrics=metrics[first : first + _METRICS])

    def _picture(self, run_id: str, record: Record) -> None:
        assert self._client is not None
        # First the smallest: a server that is away has then got no half of it.
        self._client.set_tag(run_id, MLFLOW_LOGGED_IMAGES, True)
        try:
            with Image.open(io.BytesIO(base64.b64decode(record["png"]))) as image:
                self._client.log_image(
                    run_id, image.convert("RGB"), key=_short(record["key"]),
                    step=record["step"], timestamp=record["time"], synchronous=True,
                )  # fmt: skip
        except Exception as error:  # of the artifacts' place: the curves go on
            of_network = is_of_network(error)
            if is_transient(error) if of_network else not isinstance(error, OSError):
                raise
            if self._has_place:
                self._say(f"{reason(error)}; pictures are left out")
            self._has_place = False

    def _end(self, run_id: str, record: Record) -> None:
        assert self._client is not None
        tags = [RunTag(key, value) for key, value in record["tags"].items()]
        self._client.log_batch(run_id, tags=tags)
        self._client.set_terminated(run_id, record["status"], record["time"])

    def _metrics(self, run_id: str, record: Record) -> list[Metric]:
        step = record.get("step")
        if step is None:
            step = self._known[run_id]
            self._known[run_id] += 1
        return [
            Metric(key, value, record["time"], step)
            for key, value in record["values"].items()
        ]

    def _samples(self, run_id: str) -> int:
        """Of the load of a run that goes on, so far."""
        assert self._client is not None
        history = self._client.get_metric_history(run_id, _LOAD)
        return 1 + max((metric.step for metric in history), default=-1)


def _of(header: Record) -> str:
    """Which runs are this training's."""
    return f"tags.training = '{header['training']}'"


def _short(key: str) -> str:
    """A picture's name in MLflow: a long one by its start and a digest of all of it."""
    if len(key) <= _KEY:
        return key
    return f"{key[: _KEY - 9]} {hashlib.sha256(key.encode()).hexdigest()[:8]}"
