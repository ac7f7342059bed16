"""Folds, seeds and data sets: a training each, tested; what is done stays done."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kmunet.report import SweepReport
from pipelines import sweep_results
from pipelines.ray_trials import Share, run_trials
from pipelines.report_folder import report_folder
from pipelines.sweep_plan import Trial, plan_folds
from pipelines.sweep_session import Begun, base_params, begun, given, share
from pipelines.sweep_trial import make_job


def sweep_folds(arguments: argparse.Namespace, root: Path) -> int:
    """Run the sweep; its exit code. Raises KMUNetError before anything starts."""
    params = base_params(given(arguments, root), root, arguments.datasets)
    if arguments.out:
        report_folder(arguments.out, "summary.json")
    seeds = tuple(dict.fromkeys(arguments.seeds or [params.train.seed]))
    trials = plan_folds(root, params, tuple(dict.fromkeys(arguments.datasets)), seeds)
    kind = {"folds": params.split.folds, "seeds": list(seeds)}
    asked = share(arguments, params)
    with begun(root, params, trials, "sweep") as sweep:
        _run_missing(sweep, trials, asked, root)
        report = _report(trials, sweep.log.outcomes)
        return sweep.tell(report, arguments.out, kind)


def _run_missing(
    sweep: Begun, trials: Sequence[Trial], share: Share, root: Path
) -> None:
    """All trials but those that are finished; what was tried stands in the log."""
    store, todo = sweep.log.store, {}
    for trial in trials:
        found = store.find(trial)
        if found is not None:
            sweep.log.ended(trial.name, found, said=False)
        else:
            todo[trial.name] = trial
    if len(todo) < len(trials):
        print(f"{len(trials) - len(todo)} of them are done already", flush=True)
    store.folder.mkdir(parents=True, exist_ok=True)
    jobs = [make_job(trial, root, store.place(trial)) for trial in todo.values()]
    if not jobs:
        return
    with sweep.running(share) as asked:
        for name, outcome in run_trials(jobs, share, sweep.log.event, asked):
            if outcome["status"] == "finished":
                store.keep(todo[name], outcome)
            sweep.log.ended(name, outcome)


def _report(trials: Sequence[Trial], outcomes: sweep_results.Outcomes) -> SweepReport:
    found = sweep_results.summaries(trials, outcomes)
    return SweepReport(
        title=f"{', '.join(found) or 'Sweep'}: {len(trials)} trainings",
        columns=sweep_results.COLUMNS,
        rows=sweep_results.rows(trials, outcomes),
        sentences=[sweep_results.sentence(*item) for item in found.items()],
        summary=found,
    )
