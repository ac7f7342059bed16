"""Trials of a search under Ray Tune: ASHA ends early those that fall behind.

ASHA (Li et al., MLSys 2020): at epochs g, 3 g, 9 g, ... a trial goes on only if it is
in the best third of those that have come as far. What a trial reached earlier, in a
sweep that was stopped, it reports again first, so that the rungs are as they were.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from pipelines.ray_trials import (
    Board,
    BoardReporter,
    OnEvent,
    Outcome,
    Share,
    guarded,
    lost,
)
from pipelines.sweep_trial import best_epoch, run_trial, workplace

REDUCTION = 3
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one speaks even at verbose=0
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the sweep's
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the trials' own checkpoints are what counts
}
_FAILURE = re.compile(r"^Failure # \d+ \(.*\)$", re.MULTILINE)
OnEnd = Callable[[str, Outcome], None]


@dataclass(frozen=True)
class Rules:
    """How trials are compared while they run."""

    metric: str  # of each epoch, on validation images; higher is better
    epochs: int  # of the longest trial
    grace: int | None  # epochs before ASHA compares; None: it never does


def run_search(
    jobs: Sequence[Mapping[str, Any]],
    share: Share,
    rules: Rules,
    storage: Path,
    on_event: OnEvent,
    on_end: OnEnd,
    asked: Event,
) -> None:
    """Run all jobs; `on_end` is told of each (name, outcome) as it ends.

    `status` is finished, stopped early, failed or interrupted. A job with a `replay` is
    over already: it only reports those epochs, for the others to be compared with.
    """
    os.environ.update(_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    board = Board.remote()  # type: ignore[attr-defined]
    watch = _Watch(jobs, rules, board, on_event, on_end, asked)
    shutil.rmtree(storage, ignore_errors=True)
    work = tune.with_parameters(
        _work,
        jobs={job["name"]: dict(job) for job in jobs},
        board=board,
        metric=rules.metric,
    )
    tuner = tune.Tuner(
        tune.with_resources(work, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space={"name": tune.grid_search([job["name"] for job in jobs])},
        tune_config=tune.TuneConfig(
            metric="score", mode="max", scheduler=_scheduler(rules)
        ),
        run_config=tune.RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            failure_config=tune.FailureConfig(max_failures=share.max_failures),
            callbacks=[watch],
            stop=_Drained(watch),
            verbose=0,
        ),
    )
    tuner.fit()
    watch.drain()
    shutil.rmtree(storage, ignore_errors=True)


def _scheduler(rules: Rules) -> Any:
    if rules.grace is None:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        grace_period=min(rules.grace, rules.epochs),
        reduction_factor=REDUCTION,
        max_t=rules.epochs + 1,  # else Tune ends a trial at its last epoch, unsaved
    )


def _work(
    config: dict[str, Any], jobs: dict[str, dict[str, Any]], board: Any, metric: str
) -> None:
    """Runs on a worker: one trial under Tune."""
    job = jobs[config["name"]]
    if job.get("replay"):
        for row in job["replay"]:
            _to_tune(row, metric)
        return

    def action(told: Event) -> dict[str, Any]:
        def make(folder: Path) -> _TuneReporter:
            return _TuneReporter(folder, job["name"], board, told, metric)

        return run_trial(job, make, scored=False)

    for row in _reached(workplace(job) / "checkpoints"):
        _to_tune(row, metric)
    outcome = guarded(board, action)
    ray.get(board.post.remote({"trial": job["name"], "outcome": outcome}))


class _TuneReporter(BoardReporter):
    """Epochs go to Tune, which may end the process at any of them: saved before."""

    def __init__(
        self, folder: Path, name: str, board: Any, told: Event, metric: str
    ) -> None:
        super().__init__(folder, name, board, told)
        self.metric = metric

    def tell(self, row: dict[str, float]) -> None:
        _to_tune(row, self.metric)


def _to_tune(row: Mapping[str, float], metric: str) -> None:
    tune.report({"score": row[metric], "epoch": int(row["epoch"]), "row": dict(row)})


def _reached(checkpoints: Path) -> list[dict[str, float]]:
    """The epochs of a trial that is half done."""
    for name in ("latest", "previous"):
        try:
            text = (checkpoints / name / "state.json").read_text(encoding="utf-8")
            history: list[dict[str, float]] = json.loads(text)["history"]
        except (OSError, ValueError, KeyError):
            continue
        return history
    return []


class _Watch(tune.Callback):  # type: ignore[misc]
    """On the driver: what Tune and the trials say, in the words of a sweep."""

    def __init__(
        self,
        jobs: Sequence[Mapping[str, Any]],
        rules: Rules,
        board: Any,
        on_event: OnEvent,
        on_end: OnEnd,
        asked: Event,
    ) -> None:
        self.over = {job["name"] for job in jobs if job.get("replay")}
        self.epochs = {job["name"]: job["params"]["train"]["epochs"] for job in jobs}
        self.rows: dict[str, dict[int, dict[str, float]]] = {}
        self.running: set[str] = set()
        self.board, self.asked, self.told = board, asked, False
        self.on_event, self.on_end = on_event, on_end

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy to restore from, which nobody does

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if self.asked.is_set() and not self.told:
            self.told = True
            ray.get(self.board.stop.remote())
        self.drain()

    def on_trial_start(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        self.running.add(trial.config["name"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any
    ) -> None:
        name = trial.config["name"]
        if "row" in result and name not in self.over:
            row = dict(result["row"])
            self.rows.setdefault(name, {})[int(row["epoch"])] = row
            self.on_event({"trial": name, "epoch": row})

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        self.drain()
        name = trial.config["name"]
        self.running.discard(name)
        rows = list(self.rows.get(name, {}).values())
        if not rows or self.asked.is_set():
            self._end(name, {"status": "interrupted"})
            return
        # Tune ended it: ASHA, perhaps at its last epoch.
        whole = rows[-1]["epoch"] >= self.epochs[name]
        status = "finished" if whole else "stopped early"
        found = {"status": status, "history": rows, "best": best_epoch(rows)}
        self._end(name, found)

    def on_trial_error(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        name = trial.config["name"]
        self.running.discard(name)
        self._end(name, lost(_said(trial)))

    def drain(self) -> None:
        """Take what the trials have posted."""
        for event in ray.get(self.board.take.remote()):
            if "outcome" in event:
                self._end(event["trial"], event["outcome"])
            else:
                self.on_event(event)

    def _end(self, name: str, outcome: Outcome) -> None:
        if name not in self.over:
            self.over.add(name)
            self.on_end(name, outcome)


def _said(trial: Any) -> str:
    """Of its last failure: Tune tells a callback nothing, and has written it here."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):  # none was written
        text = ""
    return _FAILURE.split(text)[-1].strip() or "Ray Tune does not say why"


class _Drained(tune.Stopper):  # type: ignore[misc]
    """Ends the search once it was asked to stop and the running trials have saved."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.watch.asked.is_set() and not self.watch.running
