"""A search of hyper-parameters on validation images; test images take no part in it."""

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kmunet.config import Params, load_params
from kmunet.errors import ConfigError
from kmunet.report import SweepReport
from pipelines.as_prepared import check_given, how_to_prepare
from pipelines.overrides import Value
from pipelines.paths import state_dir
from pipelines.ray_search import Rules, run_search
from pipelines.ray_trials import Share
from pipelines.report_folder import report_folder
from pipelines.search_space import TRIES, draws, expanded, read_space
from pipelines.sweep_log import Outcome
from pipelines.sweep_plan import Trial, changed, notes_of, plan_different
from pipelines.sweep_session import Begun, base_params, begun, given, share
from pipelines.sweep_trial import make_job

OVER = ("finished", "stopped early")
_GRACE = 9  # a trial may be ended after this part of its epochs


def sweep_search(arguments: argparse.Namespace, root: Path) -> int:
    """Run the search; its exit code. Raises KMUNetError before anything starts."""
    dataset = _one_dataset(arguments)
    values = given(arguments, root)
    params = base_params(values, root, [dataset])
    if arguments.out:
        report_folder(arguments.out, "summary.json")
    space = read_space(arguments.search, params)
    wanted = int(arguments.trials)
    drawn = draws(space, wanted, arguments.search_seed)
    trials = _plan(root, params, dataset, values, drawn, wanted)
    if len(trials) < wanted:
        print(
            f"note: {arguments.search}: {wanted * TRIES} draws gave {len(trials)} of "
            f"{wanted} different trainings"
        )
    rules = _rules(arguments, trials)
    kind = {
        "space": {key: str(values) for key, values in space.items()},
        "scheduler": arguments.scheduler,
        "metric": rules.metric,
        "grace": rules.grace,
        "search_seed": arguments.search_seed,
    }
    asked = share(arguments, params)
    with begun(root, params, trials, "search", repr(rules)) as sweep:
        _run_missing(sweep, trials, asked, rules, root)
        report = _report(sweep, trials, rules, values)
        return sweep.tell(report, arguments.out, kind)


def _one_dataset(arguments: argparse.Namespace) -> str:
    if arguments.folds is not None or arguments.seeds:
        raise ConfigError(
            "--search tries parameters on one split with one seed: leave out --folds "
            "and --seeds, and run the best parameters over folds and seeds after it"
        )
    if len(arguments.datasets) != 1:
        raise ConfigError("--search: one data set at a time")
    if arguments.trials < 1:
        raise ConfigError("--trials must be at least 1")
    if arguments.search_seed < 0:
        raise ConfigError("--search-seed must be at least 0")
    return str(arguments.datasets[0])


def _plan(
    root: Path,
    params: Params,
    dataset: str,
    values: Mapping[str, Value],
    drawn: Iterable[Mapping[str, Value]],
    wanted: int,
) -> list[Trial]:
    """As many different trials. --set stands over a recipe, a searched key over both.

    Fewer where the draws have no more.
    """
    base = load_params(root / "params.yaml")

    def asked() -> Iterator[tuple[dict[str, Value], Mapping[str, Value]]]:
        for own in drawn:
            plain = {key: value for key, value in own.items() if key != "recipe"}
            chosen = {**expanded(params, own), **values, **plain}
            _check(base, changed(base, chosen), dataset)
            yield {**chosen, "train.workers": 1}, own

    trials = list(islice(plan_different(root, params, dataset, asked()), wanted))
    for trial in trials:
        if trial.fingerprint != trials[0].fingerprint:
            raise ConfigError(
                f"{trial.label}: is trained or judged on other images than "
                f"{trials[0].label}: split and size cannot be searched; --set them"
            )
    return trials


def _check(base: Params, params: Params, dataset: str) -> None:
    """Raise ConfigError for values of a trial that a recipe may bring in."""
    check_given(base, params, dataset, how_to_prepare(params, dataset))
    if params.split.protocol == "paper":
        raise ConfigError(
            "--search: split.protocol 'paper' validates on the test images: a search "
            "would select on them: --set split.protocol=clean"
        )


def _rules(arguments: argparse.Namespace, trials: Sequence[Trial]) -> Rules:
    epochs = max(trial.params.train.epochs for trial in trials)
    if arguments.scheduler == "none":
        return Rules(arguments.metric, epochs, None)
    grace = max(1, epochs // _GRACE) if arguments.grace is None else arguments.grace
    if not 1 <= grace <= epochs:
        raise ConfigError(f"--grace {grace}: from 1 to train.epochs ({epochs})")
    return Rules(arguments.metric, epochs, grace)


def _run_missing(
    sweep: Begun, trials: Sequence[Trial], share: Share, rules: Rules, root: Path
) -> None:
    """Those that are over only say again what they reached."""
    log, store = sweep.log, sweep.log.store
    jobs = []
    for trial in trials:
        job = make_job(trial, root, store.place(trial))
        found = store.find_search(trial, repr(rules))
        if found is not None:
            log.ended(trial.name, found, said=False)
            job["replay"] = found["history"]
        jobs.append(job)
    over = len(log.outcomes)
    if over:
        print(f"{over} of them are over already", flush=True)
    if over == len(jobs):
        return
    store.folder.mkdir(parents=True, exist_ok=True)

    def ended(name: str, outcome: Outcome) -> None:
        if outcome["status"] in OVER:
            store.keep_search(log.trials[name], repr(rules), outcome)
        log.ended(name, outcome)

    # The rungs are filled first.
    jobs.sort(key=lambda job: "replay" not in job)
    storage = state_dir(root) / "ray" / sweep.name
    with sweep.running(share) as asked:
        run_search(jobs, share, rules, storage, log.event, ended, asked)
    for trial in trials:
        if log.outcomes.get(trial.name, {}).get("status") == "stopped early":
            shutil.rmtree(store.place(trial) / "checkpoints", ignore_errors=True)


def _report(
    sweep: Begun,
    trials: Sequence[Trial],
    rules: Rules,
    values: Mapping[str, Value],
) -> SweepReport:
    keys = list(dict.fromkeys(key for trial in trials for key in trial.changes))
    outcomes = sweep.log.outcomes
    rows = [_row(trial, outcomes.get(trial.name, {}), rules) for trial in trials]
    rows.sort(key=lambda row: 1.0 if row["value"] is None else -row["value"])
    whole = [row for row in rows if row["status"] == "finished"]
    best = whole[0] if whole else None
    curves = [
        [epoch[rules.metric] for epoch in outcome["history"]]
        for name, outcome in outcomes.items()
        if outcome.get("history") and (best is None or name != best["name"])
    ]
    settings: Mapping[str, Any] = {}
    again: Mapping[str, Any] = {}
    summary: dict[str, Any] = {
        "metric": rules.metric,
        "trials": len(trials),
        "notes": notes_of(trials),
        "statuses": {
            status: sum(row["status"] == status for row in rows)
            for status in sorted({row["status"] for row in rows})
        },
    }
    if best:
        settings = {key: best[key] for key in keys}
        again = {**values, **settings}
        curve = [epoch[rules.metric] for epoch in outcomes[best["name"]]["history"]]
        curves.append(curve)
        summary["best"] = {**settings, "value": best["value"], "epoch": best["epoch"]}
        summary["curve"] = curve
    return SweepReport(
        title=f"{trials[0].dataset}: search of {len(trials)} trials",
        columns=["status", "epochs", "epoch", "value", *keys],
        rows=rows,
        sentences=[
            *_sentences(trials[0].dataset, rules, rows, again, summary),
            *(f"note: {text}" for text in summary["notes"]),
        ],
        summary=summary,
        curves=curves,
        settings=settings,
    )


def _row(trial: Trial, outcome: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    row = {"name": trial.name, "status": outcome.get("status", "not run")}
    row |= {"epochs": None, "epoch": None, "value": None, **trial.changes}
    history = outcome.get("history")
    if history:
        best = max(history, key=lambda epoch: epoch[rules.metric])
        row["epochs"], row["epoch"] = len(history), int(best["epoch"])
        row["value"] = round(best[rules.metric], 6)
    return row


def _sentences(
    dataset: str,
    rules: Rules,
    rows: Sequence[Mapping[str, Any]],
    again: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> list[str]:
    """`again`: what params.yaml must have for the best trial to be trained again."""
    if not again:
        return ["no trial has finished"]
    best = summary["best"]
    early = summary["statuses"].get("stopped early", 0)
    values = " ".join(f"{key}={_written(value)}" for key, value in again.items())
    options = values.replace(" ", " --set ")
    return [
        f"best of {len(rows)} ({early} stopped early): {rules.metric} "
        f"{best['value']:.4f} in epoch {best['epoch']} with {values}",
        f"{rules.metric} by epoch: "
        + " ".join(f"{value:.3f}" for value in summary["curve"]),
        "being the best of many on the same validation images, that value is too good; "
        f"what it is worth: kmunet sweep {dataset} --seeds 1 2 3 --set {options}",
    ]


def _written(value: Value) -> str:
    """As --set reads it, without a space."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))
