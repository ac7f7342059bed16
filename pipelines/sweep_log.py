"""The driver's view of a sweep: what happens goes to the terminal, disk and MLflow."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmunet.errors import ServiceError
from pipelines.evidence import flatten, used_params
from pipelines.register import numbers
from pipelines.sweep_plan import Trial
from pipelines.sweep_store import TrialStore
from pipelines.tracking_sweep import SweepRuns

Outcome = dict[str, Any]
_EVERY = 20.0  # seconds between two lines on what is running
_PAUSE = 60.0  # seconds for which an MLflow that did not answer is left alone
_STATUS = {"finished": "FINISHED", "stopped early": "FINISHED", "failed": "FAILED"}


class SweepLog:
    """One writer for all trials; MLflow not answering does not end a sweep."""

    def __init__(
        self, trials: Sequence[Trial], store: TrialStore, runs: SweepRuns
    ) -> None:
        self.trials = {trial.name: trial for trial in trials}
        self.store, self.runs = store, runs
        self.outcomes: dict[str, Outcome] = {}
        self.trouble: ServiceError | None = None
        self._running: dict[str, str] = {}
        self._spoken = time.monotonic()
        self._next = 0.0  # when MLflow is asked again, after it did not answer
        for trial in trials:
            params = flatten(used_params(trial.params, trial.dataset))
            runs.declare(trial.name, trial.label, params)

    def event(self, event: Mapping[str, Any]) -> None:
        """An epoch or some progress of a trial that runs."""
        name = event["trial"]
        if "epoch" in event:
            row = event["epoch"]
            epochs = self.trials[name].params.train.epochs
            text = f"epoch {row['epoch']:.0f}/{epochs}, val IoU {row['val_iou']:.4f}"
            self._running[name] = text
            self._to_mlflow(name, [row])
        else:
            now = event["progress"]
            text = f"epoch {now['epoch']}/{now['epochs']}, loss {now['loss']:.4f}"
            self._running[name] = text
        if time.monotonic() - self._spoken > _EVERY:
            self._spoken = time.monotonic()
            for name, text in self._running.items():
                print(f"  {self.trials[name].label}: {text}", flush=True)

    def ended(self, name: str, outcome: Outcome, *, said: bool = True) -> None:
        """A trial has come to an end, now or earlier."""
        trial = self.trials[name]
        self._running.pop(name, None)
        self.outcomes[name] = outcome
        status = outcome["status"]
        if status == "failed":
            outcome["file"] = str(self.store.fail(trial, outcome))
        self._to_mlflow(name, outcome.get("history", []), outcome)
        if said:
            count = f"[{len(self.outcomes)}/{len(self.trials)}]"
            print(f"{count} {trial.label}: {describe(outcome)}", flush=True)

    def close(
        self,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        folder: Path,
        stopped: bool,
    ) -> None:
        """Log what MLflow has missed, and close the parent with the report's files."""
        missed, self.trouble, self._next = self.trouble, None, 0.0
        for name, outcome in self.outcomes.items() if missed else ():
            self._to_mlflow(name, outcome.get("history", []), outcome)
        status = "KILLED" if stopped else "FAILED" if self.failed else "FINISHED"
        try:
            self.runs.finish(status, params, metrics, folder)
        except ServiceError as error:
            self.trouble = error
        if self.trouble:
            print(
                f"error: not all is in MLflow: {self.trouble}; nothing is lost: the "
                "same command logs it without training again",
                file=sys.stderr,
            )

    @property
    def failed(self) -> list[Trial]:
        """The trials that ended with an error."""
        return [
            self.trials[name]
            for name, outcome in self.outcomes.items()
            if outcome["status"] == "failed"
        ]

    def _to_mlflow(
        self,
        name: str,
        rows: Sequence[Mapping[str, float]],
        outcome: Outcome | None = None,
    ) -> None:
        if time.monotonic() < self._next:
            return  # close() logs what was missed
        try:
            self.runs.log_epochs(name, rows)
            if outcome is not None:
                status = _STATUS.get(outcome["status"], "KILLED")
                tags = {"status": outcome["status"]}
                if outcome.get("message"):
                    tags["message"] = outcome["message"][:500]
                self.runs.end(name, status, _metrics(outcome), tags)
        except ServiceError as error:
            if self.trouble is None:
                print(f"note: {error}; the sweep goes on", file=sys.stderr, flush=True)
            self.trouble, self._next = error, time.monotonic() + _PAUSE


def describe(outcome: Outcome) -> str:
    """In a few words."""
    if outcome["status"] == "failed":
        return f"failed: {outcome['message']}"
    text = str(outcome["status"])
    if "best" in outcome:
        best = outcome["best"]
        text += f", val IoU {best['val_iou']:.4f} in epoch {best['epoch']:.0f}"
    if "metrics" in outcome:
        text += f", test IoU {outcome['metrics']['iou']['mean']:.4f}"
    return text


def _metrics(outcome: Outcome) -> dict[str, float]:
    best = outcome.get("best")
    found = {} if best is None else {f"best.{k}": float(v) for k, v in best.items()}
    return found | numbers(outcome.get("metrics", {}), "test")
