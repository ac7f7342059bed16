"""The results of a sweep over folds, seeds and data sets: rows, numbers, sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from kmunet.evaluation import Repeat, summarize_repeats, too_few
from pipelines.sweep_plan import Trial, notes_of

Row = dict[str, Any]
Outcomes = Mapping[str, Mapping[str, Any]]  # by the trial's name
COLUMNS = (
    "data set", "fold", "seed", "status", "best epoch", "val IoU", "IoU", "Dice",
    "HD95", "misses", "false alarms", "images",
)  # fmt: skip


def rows(trials: Sequence[Trial], outcomes: Outcomes) -> list[Row]:
    """A row a trial; of one that did not end well only what it is and its status."""
    return [_row(trial, outcomes.get(trial.name, {})) for trial in trials]


def summaries(trials: Sequence[Trial], outcomes: Outcomes) -> dict[str, Row]:
    """By data set, over its finished trials; without those that have none.

    `missing` counts the trials that are not in it.
    """
    found = {}
    for dataset in dict.fromkeys(trial.dataset for trial in trials):
        own = [trial for trial in trials if trial.dataset == dataset]
        done = [trial for trial in own if _finished(outcomes.get(trial.name))]
        if not done:
            continue
        rules = own[0].params.evaluate
        summary = summarize_repeats(
            [_repeat(trial, outcomes) for trial in done],
            samples=rules.bootstrap,
            confidence=rules.confidence,
            seed=rules.seed,
        )  # fmt: skip
        summary["missing"] = len(own) - len(done)
        summary["notes"] = [*notes_of(own), *too_few(summary["groups"])]
        found[dataset] = {**summary, "confidence": rules.confidence}
    return found


def sentence(dataset: str, summary: Mapping[str, Any]) -> str:
    """The result of one data set, with what its interval and spreads are of."""
    iou, dice = summary["iou"], summary["dice"]
    text = (
        f"{dataset}: IoU {iou['mean']:.4f} [{iou['low']:.4f}, {iou['high']:.4f}], "
        f"Dice {dice['mean']:.4f} [{dice['low']:.4f}, {dice['high']:.4f}]; "
        f"{100 * summary['confidence']:g} % over {summary['groups']} groups of "
        f"{summary['images']} test images, each averaged over its trainings"
    )
    spreads = {"seeds": summary["whole_seeds"], "folds": summary["folds"]}
    for kind, count in spreads.items():
        if iou[f"sd_{kind}"] is not None:
            value = iou[f"sd_{kind}"]
            text += f"; IoU's standard deviation over {count} {kind} {value:.4f}"
    if summary["missing"]:
        text += f"; INCOMPLETE: {summary['missing']} trials are missing"
    for note in summary["notes"]:
        text += f"; note: {note}"
    return text


def _row(trial: Trial, outcome: Mapping[str, Any]) -> Row:
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "data set": trial.dataset,
        "fold": trial.params.split.fold,
        "seed": trial.params.train.seed,
        "status": outcome.get("status", "not run"),
    }
    if not _finished(outcome):
        return row
    best, metrics = outcome["best"], outcome["metrics"]
    return row | {
        "best epoch": int(best["epoch"]),
        "val IoU": round(best["val_iou"], 6),
        "IoU": round(metrics["iou"]["mean"], 6),
        "Dice": round(metrics["dice"]["mean"], 6),
        "HD95": _rounded(metrics["hd95"]["mean"]),
        "misses": metrics["misses"],
        "false alarms": metrics["false_alarms"],
        "images": metrics["images"],
    }


def _repeat(trial: Trial, outcomes: Outcomes) -> Repeat:
    fold, seed = trial.params.split.fold, trial.params.train.seed
    return Repeat(fold, seed, outcomes[trial.name]["table"])


def _finished(outcome: Mapping[str, Any] | None) -> bool:
    return outcome is not None and outcome.get("status") == "finished"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
