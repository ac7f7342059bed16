"""A sweep in MLflow: one parent run, a nested run a trial, all written by the driver.

Runs are found again by tags, so that a sweep that goes on, or is asked for twice, adds
what is missing and nothing twice.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pipelines.paths import state_dir
from pipelines.tracking_place import storing
from pipelines.tracking_store import (
    answering,
    choose_store,
    experiment,
    hurry,
    log_params,
    open_run,
)

_MESSAGE = "message"  # a tag: why a trial failed
_BATCH = 900  # values in one request; MLflow takes 1000


class SweepRuns:
    """The runs of one sweep in the experiment `group`."""

    def __init__(self, root: Path, group: str, identity: str, name: str) -> None:
        """Find or make the parent. ServiceError where MLflow does not answer."""
        state = state_dir(root)
        choose_store(state)
        hurry()
        self.uri: str = mlflow.get_tracking_uri()
        self.client = MlflowClient()
        with answering(self.uri):
            self.experiment = experiment(self.client, group, state)
            self.parent = self._run({"sweep": identity}, name, {})
        self._known: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._children: dict[str, str] = {}
        self._logged: dict[str, set[int]] = {}  # epochs, by trial

    def declare(self, trial: str, name: str, params: Mapping[str, Any]) -> None:
        """What the trial's run is called and made of; it is opened when needed."""
        self._known[trial] = name, params

    def log_epochs(self, trial: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs of `rows` that are not logged yet."""
        with answering(self.uri):
            run = self._child(trial)
            new = [row for row in rows if int(row["epoch"]) not in self._logged[trial]]
            now = int(1000 * time.time())
            points = [
                Metric(key, float(value), now, int(row["epoch"]))
                for row in new
                for key, value in row.items()
                if key != "epoch"
            ]
            for start in range(0, len(points), _BATCH):
                part = points[start : start + _BATCH]
                self.client.log_batch(run, metrics=part)
            self._logged[trial] |= {int(row["epoch"]) for row in new}

    def end(
        self,
        trial: str,
        status: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Close the trial's run: FINISHED, FAILED or KILLED."""
        with answering(self.uri):
            run = self._child(trial)
            self._close(run, status, metrics, tags)
            if _MESSAGE in self.client.get_run(run).data.tags.keys() - tags.keys():
                self.client.delete_tag(run, _MESSAGE)  # of a try that failed

    def finish(
        self,
        status: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        folder: Path,
    ) -> None:
        """Close the parent with the aggregated metrics and the files of `folder`."""
        with answering(self.uri):
            log_params(self.client, self.parent, params)
            self._close(self.parent, status, metrics, {})  # whatever the files' place
            with storing(self.client, self.experiment):
                self.client.log_artifacts(self.parent, str(folder))

    def abandon(self, status: str) -> None:
        """Close the runs that are still open, the parent last."""
        with answering(self.uri):
            for run in (*self._children.values(), self.parent):
                if self.client.get_run(run).info.status == "RUNNING":
                    self.client.set_terminated(run, status)

    def _child(self, trial: str) -> str:
        """The trial's run below the parent, opened once."""
        if trial not in self._children:
            name, params = self._known[trial]
            tags = {"trial": trial, MLFLOW_PARENT_RUN_ID: self.parent}
            run = self._run(tags, name, params)
            history = self.client.get_metric_history(run, "val_iou")
            self._logged[trial] = {point.step for point in history}
            self._children[trial] = run
        return self._children[trial]

    def _close(
        self,
        run: str,
        status: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        now = int(1000 * time.time())
        points = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
        marks = [RunTag(key, value) for key, value in tags.items()]
        self.client.log_batch(run, metrics=points, tags=marks)
        self.client.set_terminated(run, status)

    def _run(
        self, tags: Mapping[str, str], name: str, params: Mapping[str, Any]
    ) -> str:
        """The run with these tags, running again; made where there is none."""
        asked = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        every = {**tags, MLFLOW_RUN_NAME: name}
        return open_run(
            self.client, self.experiment, asked, params, tags=every, run_name=name
        )
