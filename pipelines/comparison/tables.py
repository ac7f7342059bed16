"""From results to what is reported: a row a model, a row a run, a row an image.

Over several seeds an image's score is its mean over them; intervals are over groups of
images, and all of one comparison are of the same draws.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.config import EvaluateParams
from kmunet.evaluation.paired import mean_interval, paired_difference
from kmunet.evaluation.repeated import spread
from pipelines.comparison.runs import Result

METRICS = ("iou", "dice")
USED = (
    "steps", "epochs", "wall", "cpu", "step_wall", "step_cpu", "memory",
    "device_memory",
)  # fmt: skip
Table = list[dict[str, Any]]


def model_rows(found: Sequence[Result], params: EvaluateParams) -> Table:
    """A row a model, in the order of `found`; differences are to the first."""
    by_model = _by_model(found)
    first = next(iter(by_model.values()))
    return [
        {
            "model": model,
            "seeds": len(results),
            "parameters": results[0].facts["parameters"],
            "flops": results[0].facts["flops"],
            **{name: _mean(r.facts[name] for r in results) for name in USED},
            "validation_iou": _mean(r.facts["best"]["iou"] for r in results),
            "best_epoch": _mean(r.facts["best"]["epoch"] for r in results),
            **{m: _scores(results, m, params) for m in METRICS},
            "difference": None
            if results is first
            else {m: _difference(results, first, m, params) for m in METRICS},
            "misses": _mean(_outcomes(r, "miss") for r in results),
            "false_alarms": _mean(_outcomes(r, "false_alarm") for r in results),
        }
        for model, results in by_model.items()
    ]


def run_rows(found: Sequence[Result]) -> Table:
    """A row a training."""
    names = ("parameters", "flops", *USED, "process_memory")
    return [
        {
            "model": result.run.model,
            "seed": result.run.seed,
            **{name: result.facts[name] for name in names},
            "validation_iou": result.facts["best"]["iou"],
            "best_epoch": result.facts["best"]["epoch"],
            **{m: float(np.mean([row[m] for row in result.table])) for m in METRICS},
        }
        for result in found
    ]


def curve_rows(found: Sequence[Result]) -> Table:
    """A row an epoch of a training."""
    names = ("epoch", "lr", "train_loss", "val_loss", "val_iou")
    return [
        {
            "model": result.run.model,
            "seed": result.run.seed,
            "minutes": epoch["wall"] / 60,
            "cpu_minutes": epoch["cpu"] / 60,
            **{name: epoch[name] for name in names},
        }
        for result in found
        for epoch in result.facts["history"]
    ]


def image_rows(found: Sequence[Result]) -> Table:
    """A row a test image, with the IoU of each model."""
    scores = {model: image_scores(r, "iou") for model, r in _by_model(found).items()}
    return [
        {
            **{name: row[name] for name in ("id", "category", "group")},
            **{model: float(values[n]) for model, values in scores.items()},
        }
        for n, row in enumerate(found[0].table)
    ]


def image_scores(results: Sequence[Result], metric: str) -> NDArray[np.float64]:
    """Of each test image (N,), the mean over seeds."""
    values = [[row[metric] for row in result.table] for result in results]
    mean: NDArray[np.float64] = np.mean(np.asarray(values, np.float64), axis=0)
    return mean


def _by_model(found: Sequence[Result]) -> Mapping[str, list[Result]]:
    rows: dict[str, list[Result]] = {}
    for result in found:
        rows.setdefault(result.run.model, []).append(result)
    return rows


def _scores(
    results: Sequence[Result], metric: str, params: EvaluateParams
) -> dict[str, Any]:
    """mean, low, high; `spread`: the standard deviation over seeds, None for one."""
    found = mean_interval(image_scores(results, metric), *_draws(results, params))
    return {**found, "spread": spread([_test(r, metric) for r in results])}


def _difference(
    results: Sequence[Result],
    first: Sequence[Result],
    metric: str,
    params: EvaluateParams,
) -> dict[str, Any]:
    values, baseline = image_scores(results, metric), image_scores(first, metric)
    by_seed = [
        _test(a, metric) - _test(b, metric) for a, b in zip(results, first, strict=True)
    ]
    return {
        **paired_difference(values, baseline, *_draws(results, params)),
        "spread": spread(by_seed),
    }


def _draws(
    results: Sequence[Result], params: EvaluateParams
) -> tuple[int, float, int, list[Any]]:
    groups = [row["group"] for row in results[0].table]
    return params.bootstrap, params.confidence, params.seed, groups


def _test(result: Result, metric: str) -> float:
    return float(np.mean([row[metric] for row in result.table]))


def _outcomes(result: Result, kind: str) -> int:
    return sum(row["outcome"] == kind for row in result.table)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
