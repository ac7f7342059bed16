"""Stage `evaluate`: score the best model on the test split, once, and report.

Writes metrics/<data set>.json and reports/<data set>/ (docs/metrics.md defines the
numbers). Both appear only when all of it is done; a rerun gives the same bytes.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kmunet.config import EvaluateParams, Params
from kmunet.data.atomic import new_folder
from kmunet.data.store import PackedSet, open_packed
from kmunet.device import choose_device
from kmunet.errors import CheckpointError, DataError
from kmunet.evaluation import breakdown, pooled_iou, score_image, summarize
from kmunet.inference import Predictor, read_history
from kmunet.report import (
    Example,
    Report,
    choose_examples,
    run_facts,
    write_metrics,
    write_report,
)
from pipelines.paths import Paths
from pipelines.stage import stage_main

_QUIET = 10.0  # seconds without a word


@dataclass(frozen=True)
class Scored:
    """The test images in the order of the packed set, with what became of them."""

    images: NDArray[np.uint8]  # (N, S, S, 3)
    truths: NDArray[np.bool_]  # (N, S, S)
    preds: NDArray[np.bool_]  # (N, S, S)
    table: list[dict[str, Any]]  # a row an image: id, category and scores


def run(params: Params, paths: Paths) -> None:
    """Score the test images, then write the report and the metrics."""
    packed = open_packed(paths.prepared)
    predictor = _load_predictor(params, paths, packed)
    history = read_history(paths.model / "history.csv")
    scored = score(predictor, packed, params.evaluate)
    metrics = {
        **measure(scored, params.evaluate),
        "dataset": paths.dataset,
        "model": {
            "name": predictor.spec["model"]["name"],
            "parameters": predictor.parameters,
        },
        "data_fingerprint": packed.fingerprint,
        "checkpoint": _sha256(paths.model / "model.safetensors"),
    }
    report = Report(
        metrics=metrics,
        table=scored.table,
        breakdown=breakdown(scored.table),
        history=history,
        run=run_facts(
            metrics,
            predictor.spec,
            params.model_dump(mode="json", by_alias=True),
            packed.manifest,
        ),
        confidence=params.evaluate.confidence,
        examples=_examples(scored, params.evaluate.overlays),
    )
    _write(paths, report)
    print(_headline(paths, metrics), flush=True)


def score(predictor: Predictor, packed: PackedSet, params: EvaluateParams) -> Scored:
    """Predict and score the test images. DataError if there are none."""
    test = packed.indices("test")
    if not len(test):
        raise DataError(
            "no image is in the test split: raise prepare.test in params.yaml "
            "or add images"
        )
    images, truths = packed.images[test], packed.masks[test].astype(bool)
    preds = predict(predictor, images, params)
    table = [
        {"id": record.id, "category": record.category, **score_image(pred, truth)}
        for record, pred, truth in zip(
            (packed.records[n] for n in test), preds, truths, strict=True
        )
    ]
    return Scored(images, truths, preds, table)


def predict(
    predictor: Predictor, images: NDArray[np.uint8], params: EvaluateParams
) -> NDArray[np.bool_]:
    """Masks (N, S, S): where the probability is above the threshold."""
    parts, spoken = [], time.monotonic()
    for start in range(0, len(images), params.batch_size):
        batch = images[start : start + params.batch_size]
        parts.append(predictor.batch(batch) > params.threshold)
        if time.monotonic() - spoken > _QUIET:
            spoken = time.monotonic()
            print(f"{start + len(batch)} of {len(images)} test images", flush=True)
    return np.concatenate(parts)


def measure(scored: Scored, params: EvaluateParams) -> dict[str, Any]:
    """The numbers of metrics/<data set>.json that come from the masks alone."""
    iou, dice = pooled_iou(scored.preds, scored.truths)
    summary = summarize(
        scored.table,
        samples=params.bootstrap,
        confidence=params.confidence,
        seed=params.seed,
    )
    return {
        **summary,
        "paper": {"pooled_iou": iou, "pooled_dice": dice},
        "threshold": params.threshold,
    }


def _load_predictor(params: Params, paths: Paths, packed: PackedSet) -> Predictor:
    torch.set_num_threads(params.train.threads)
    predictor = Predictor.load(paths.model, choose_device(params.train.device))
    if predictor.spec.get("data_fingerprint") != packed.fingerprint:
        # Else an image that the model was trained on could be in the test split.
        raise CheckpointError(
            f"{paths.model}: trained on other data than {paths.prepared} holds now; "
            f"run `dvc repro train@{paths.dataset}` first"
        )
    return predictor


def _examples(scored: Scored, budget: int) -> list[Example]:
    return [
        Example(
            section,
            scored.table[n],
            scored.images[n],
            scored.truths[n],
            scored.preds[n],
        )
        for section, places in choose_examples(scored.table, budget).items()
        for n in places
    ]


def _write(paths: Paths, report: Report) -> None:
    with new_folder(paths.report) as folder:
        write_report(folder, report)
    write_metrics(paths.metrics, report.metrics)


def _headline(paths: Paths, metrics: dict[str, Any]) -> str:
    iou = metrics["iou"]
    return (
        f"{paths.dataset}: IoU {iou['mean']:.4f} [{iou['low']:.4f}, {iou['high']:.4f}],"
        f" Dice {metrics['dice']['mean']:.4f} on {metrics['images']} test images, "
        f"{metrics['misses']} misses, {metrics['false_alarms']} false alarms; "
        f"report: {(paths.report / 'report.html').relative_to(paths.root)}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(stage_main("evaluate", run))
