"""A training in MLflow while it runs: curves, pictures, the machine's load.

All goes through an outbox: MLflow being slow, down or away costs the training nothing.
`register` goes on with the same run (`Registry.add`).
"""

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from pipelines.paths import state_dir
from pipelines.spool import Record, deliver_left
from pipelines.tracking_store import choose_store, experiment, hurry

_LOAD = "system/cpu_utilization_percentage"
_METRICS, _PARAMS = 1000, 100  # that MLflow takes at once


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
    """`pipelines.spool.Sink`: a run for each training."""

    def __init__(self, state: Path, folder: Path | None = None) -> None:
        """With `folder`: what earlier trainings left there is sent first."""
        self._state, self._folder = state, folder
        self._client: MlflowClient | None = None
        self._known: dict[str, int] = {}  # runs, and the next sample of their load
        hurry()

    def open(self, header: Record) -> Record:
        if header["run_id"] in self._known:
            return header
        if self._client is None:
            choose_store(self._state)
            self._client = MlflowClient()
        if self._folder is not None:
            folder, self._folder = self._folder, None
            with suppress(MlflowException):
                deliver_left(folder, self)
        run_id = self._find(header) or self._make(header)
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

    def _find(self, header: Record) -> str | None:
        """The run of a training that was interrupted and goes on."""
        assert self._client is not None
        place = experiment(self._client, header["experiment"], self._state)
        found = self._client.search_runs(
            [place],
            f"tags.training = '{header['training']}' and attributes.status != "
            "'FINISHED'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        if not found:
            return None
        run_id = str(found[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _make(self, header: Record) -> str:
        assert self._client is not None
        run = self._client.create_run(
            experiment(self._client, header["experiment"], self._state),
            start_time=header["time"],
            tags=resolve_tags(header["tags"]),
            run_name=header["training"],
        )
        run_id = str(run.info.run_id)
        params = [Param(key, value) for key, value in header["params"].items()]
        for first in range(0, len(params), _PARAMS):
            self._client.log_batch(run_id, params=params[first : first + _PARAMS])
        return run_id

    def _log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        assert self._client is not None
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(run_id, metrics=metrics[first : first + _METRICS])

    def _picture(self, run_id: str, record: Record) -> None:
        assert self._client is not None
        # First the smallest: a server that is away has then got no half of it.
        self._client.set_tag(run_id, MLFLOW_LOGGED_IMAGES, True)
        with Image.open(io.BytesIO(base64.b64decode(record["png"]))) as image:
            self._client.log_image(
                run_id, image.convert("RGB"), key=record["key"], step=record["step"],
                timestamp=record["time"], synchronous=True,
            )  # fmt: skip

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
