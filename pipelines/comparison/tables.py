"""From results to what is reported: a row a model, a row a run, a row an image.

With folds every image is tested once; over several seeds its score is its mean over
them. Intervals are over groups of images, and all of one comparison are of the same
draws.
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
    models = by_model(found)
    first = next(iter(models.values()))
    return [
        {
            "model": model,
            "seeds": len({result.run.seed for result in results}),
            "parameters": results[0].facts["parameters"],
            "flops": results[0].facts["flops"],
            **{name: _mean(r.facts[name] for r in results) for name in USED},
            "validation_iou": _mean(r.facts["best"]["iou"] for r in results),
            "best_epoch": _mean(r.facts["best"]["epoch"] for r in results),
            **{m: _scores(results, m, params) for m in METRICS},
            "difference": None
            if results is first
            else {m: _difference(results, first, m, params) for m in METRICS},
            "misses": _outcomes(results, "miss"),
            "false_alarms": _outcomes(results, "false_alarm"),
        }
        for model, results in models.items()
    ]


def run_rows(found: Sequence[Result]) -> Table:
    """A row a training."""
    names = ("parameters", "flops", *USED, "process_memory")
    return [
        {
            "model": result.run.model,
            "fold": result.run.fold,
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
            "fold": result.run.fold,
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
    models = by_model(found)
    scores = {model: image_scores(r, "iou") for model, r in models.items()}
    return [
        {
            **{name: row[name] for name in ("id", "category", "group", "fold")},
            **{model: float(values[n]) for model, values in scores.items()},
        }
        for n, row in enumerate(tested(found))
    ]


def tested(found: Sequence[Result]) -> Table:
    """The test images fold by fold, as the first model and seed have them."""
    first = found[0].run
    return [
        {**row, "fold": result.run.fold}
        for result in found
        if (result.run.model, result.run.seed) == (first.model, first.seed)
        for row in result.table
    ]


def image_scores(results: Sequence[Result], metric: str) -> NDArray[np.float64]:
    """Of each test image (N,), fold by fold, the mean over seeds. One model's."""
    mean: NDArray[np.float64] = np.mean(_by_seed(results, metric), axis=0)
    return mean


def _by_seed(results: Sequence[Result], metric: str) -> NDArray[np.float64]:
    """Of each seed and test image, fold by fold (seeds, N)."""
    values: dict[int, list[float]] = {}
    for result in results:
        own = values.setdefault(result.run.seed, [])
        own += [row[metric] for row in result.table]
    return np.asarray(list(values.values()), np.float64)


def by_model(found: Sequence[Result]) -> Mapping[str, list[Result]]:
    """In the order of `found`."""
    rows: dict[str, list[Result]] = {}
    for result in found:
        rows.setdefault(result.run.model, []).append(result)
    return rows


def _scores(
    results: Sequence[Result], metric: str, params: EvaluateParams
) -> dict[str, Any]:
    """mean, low, high; `spread`: the standard deviation over seeds, None for one."""
    found = mean_interval(image_scores(results, metric), *_draws(results, params))
    means = _by_seed(results, metric).mean(axis=1)
    return {**found, "spread": spread(means.tolist())}


def _difference(
    results: Sequence[Result],
    first: Sequence[Result],
    metric: str,
    params: EvaluateParams,
) -> dict[str, Any]:
    values, baseline = image_scores(results, metric), image_scores(first, metric)
    by_seed = _by_seed(results, metric) - _by_seed(first, metric)
    return {
        **paired_difference(values, baseline, *_draws(results, params)),
        "spread": spread(by_seed.mean(axis=1).tolist()),
    }


def _draws(
    results: Sequence[Result], params: EvaluateParams
) -> tuple[int, float, int, list[Any]]:
    groups = [row["group"] for row in tested(results)]
    return params.bootstrap, params.confidence, params.seed, groups


def _outcomes(results: Sequence[Result], kind: str) -> float:
    """How many of all test images, the mean over seeds."""
    outcomes = [row["outcome"] for result in results for row in result.table]
    return outcomes.count(kind) / len({result.run.seed for result in results})


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
