"""Stage `evaluate`: score the best model on the test split, once, and report.

Writes metrics/<data set>.json and reports/<data set>/ (docs/metrics.md defines the
numbers). Both appear only when all of it is done; a rerun gives the same bytes.
"""

import torch

from kmunet.config import EvaluateParams, Params
from kmunet.data.atomic import new_folder
from kmunet.data.digest import sha256_of
from kmunet.data.store import PackedSet, open_packed
from kmunet.device import choose_device
from kmunet.evaluation import breakdown, too_few
from kmunet.inference import Predictor, read_history
from kmunet.report import (
    Example,
    Report,
    choose_examples,
    run_facts,
    write_metrics,
    write_report,
)
from pipelines.own_data import require_own_data
from pipelines.paths import Paths
from pipelines.scoring import MaskFile, Scored, measure, score, scored_pair
from pipelines.stage import stage_main


def run(params: Params, paths: Paths) -> None:
    """Score the test images, then write the report and the metrics."""
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    predictor = _load_predictor(params, paths, packed)
    history = read_history(paths.model / "history.csv")
    with MaskFile(paths.root, len(packed.classes)) as preds:
        scored = score(predictor, packed, params.evaluate, preds)
        report = _report(params, paths, packed, predictor, scored, history)
    _write(paths, report)
    print(_headline(paths, report), flush=True)
    for note in report.notes:
        print(f"note: {note}", flush=True)


def _report(
    params: Params,
    paths: Paths,
    packed: PackedSet,
    predictor: Predictor,
    scored: Scored,
    history: list[dict[str, float]],
) -> Report:
    model = predictor.spec["model"]["name"]
    metrics = {
        **measure(scored, params.evaluate),
        "dataset": paths.dataset,
        "model": {"name": model, "parameters": predictor.parameters},
        "data_fingerprint": packed.fingerprint,
        "checkpoint": sha256_of(paths.model / "model.safetensors"),
    }
    sections = params.model_dump(mode="json", by_alias=True)
    return Report(
        metrics=metrics,
        table=scored.table,
        breakdown=breakdown(scored.table),
        history=history,
        run=run_facts(metrics, predictor.spec, sections, packed.manifest),
        confidence=params.evaluate.confidence,
        examples=_examples(packed, scored, params.evaluate),
        classes=packed.classes,
        selected_on_test=_selects_on_test(packed),
        notes=_notes(packed, metrics["groups"]),
    )


def _notes(packed: PackedSet, groups: int) -> list[str]:
    """What is to be known of the split and of intervals over its test images."""
    return [*packed.division["notes"], *too_few(groups)]


def _selects_on_test(packed: PackedSet) -> bool:
    return bool(packed.division["settings"]["protocol"] == "paper")


def _load_predictor(params: Params, paths: Paths, packed: PackedSet) -> Predictor:
    torch.set_num_threads(params.train.threads)
    predictor = Predictor.load(paths.model, choose_device(params.train.device))
    remedy = f"run `dvc repro train@{paths.dataset}` first"
    require_own_data(predictor.spec, packed, paths, remedy)
    return predictor


def _examples(
    packed: PackedSet, scored: Scored, params: EvaluateParams
) -> list[Example]:
    return [
        Example(
            section,
            scored.table[n],
            *scored_pair(packed, scored.rows[n], params),
            scored.preds[n],
        )
        for section, places in choose_examples(scored.table, params.overlays).items()
        for n in places
    ]


def _write(paths: Paths, report: Report) -> None:
    with new_folder(paths.report) as folder:
        write_report(folder, report)
    write_metrics(paths.metrics, report.metrics)


def _headline(paths: Paths, report: Report) -> str:
    metrics, iou = report.metrics, report.metrics["iou"]
    too_good = " that its epoch was selected on" if report.selected_on_test else ""
    return (
        f"{paths.dataset}: IoU {iou['mean']:.4f} [{iou['low']:.4f}, {iou['high']:.4f}],"
        f" Dice {metrics['dice']['mean']:.4f} on {metrics['images']} test images"
        f"{too_good}, "
        f"{metrics['misses']} misses, {metrics['false_alarms']} false alarms; "
        f"report: {(paths.report / 'report.html').relative_to(paths.root)}"
    )


if __name__ == "__main__":
    raise SystemExit(stage_main("evaluate", run))
