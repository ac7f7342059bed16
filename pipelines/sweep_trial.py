"""One trial, in a process of its own: split, fit, and score the test images.

Its folder holds checkpoints while it trains, then the model: a trial that is started
again does what is left. Knows neither Ray nor MLflow.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kmunet.config import Params, parse_params
from kmunet.data.locked import locked
from kmunet.data.remote import default_cache
from kmunet.data.store import PackedSet, open_prepared
from kmunet.device import choose_device
from kmunet.errors import DataError
from kmunet.inference import Predictor, read_history
from kmunet.models import build_model
from kmunet.training import LocalReporter, fit
from kmunet.training.determinism import make_deterministic
from pipelines.content import receive, send
from pipelines.folds import divided
from pipelines.paths import Paths
from pipelines.receipt import SCORING, TRAINING, check_code, code_digest
from pipelines.scoring import MaskFile, measure, score
from pipelines.sweep_plan import Trial
from pipelines.train import export, model_arguments, training_data

Job = Mapping[str, Any]
MakeReporter = Callable[[Path], LocalReporter]
PARTS = (*TRAINING, *SCORING)


def make_job(trial: Trial, root: Path, folder: Path) -> dict[str, Any]:
    """What `run_trial` is called with: plain values that travel."""
    prepared = Paths(root, trial.dataset).prepared
    return {
        "name": trial.name,
        "dataset": trial.dataset,
        "params": trial.params.model_dump(mode="json", by_alias=True),
        "prepared": send(root, prepared.relative_to(root).as_posix()),
        "fingerprint": trial.fingerprint,
        "code": code_digest(PARTS),
        "folder": str(folder),
    }


def run_trial(
    job: Job, make_reporter: MakeReporter, *, scored: bool = True
) -> dict[str, Any]:
    """Train and, if `scored`, test; the history and what was measured.

    Goes on from the newest checkpoint of its folder. Raises KMUNetError.
    """
    params, place = parse_params(job["params"]), workplace(job)
    own = Paths(place, job["dataset"])
    make_deterministic(params.train.seed, params.train.threads)
    with locked(place.with_suffix(".lock"), lambda: None):
        packed = _packed(job, params, own)
        if not (own.model / "model.json").is_file():
            _train(params, packed, own, make_reporter(place / "checkpoints"), job)
        history = read_history(own.model / "history.csv")
        found = _tested(params, packed, own) if scored else {}
    return {"history": history, "best": best_epoch(history), **found}


def workplace(job: Job) -> Path:
    """The driver's folder where it can be reached, else one of this node's own."""
    wanted = Path(job["folder"])
    if not wanted.parent.is_dir():
        wanted = default_cache() / "sweeps" / wanted.name
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def best_epoch(history: list[dict[str, float]]) -> dict[str, float]:
    """The epoch that is kept: the first of the highest validation IoU."""
    row = max(history, key=lambda row: row["val_iou"])
    return {"epoch": row["epoch"], "val_iou": row["val_iou"]}


def _packed(job: Job, params: Params, own: Paths) -> PackedSet:
    """The trial's own split of the prepared data. DataError if those are others."""
    prepared = open_prepared(receive(job["prepared"]))
    packed = divided(prepared, params, own.splits)
    if packed.fingerprint != job["fingerprint"]:
        raise DataError(
            f"{prepared.folder}: other data than the sweep began with; run it again"
        )
    return packed


def _train(
    params: Params, packed: PackedSet, own: Paths, reporter: LocalReporter, job: Job
) -> None:
    """Fit and export; the checkpoints go once the model is there.

    TrainingError if the code is not that of the plan, or is no more.
    """
    check_code(PARTS, job["code"])
    model = build_model(**model_arguments(params, packed))
    fit(model, training_data(params, packed), params.train, reporter)
    check_code(PARTS, job["code"])  # what was read when it was needed
    export(reporter.folder / "latest", params, packed, own.model)
    shutil.rmtree(reporter.folder, ignore_errors=True)


def _tested(params: Params, packed: PackedSet, own: Paths) -> dict[str, Any]:
    """The numbers of the test images, as the stage `evaluate` counts them."""
    predictor = Predictor.load(own.model, choose_device(params.train.device))
    with MaskFile(own.root, len(packed.classes)) as preds:
        scored = score(predictor, packed, params.evaluate, preds)
    return {
        "metrics": measure(scored, params.evaluate),
        "table": [_plain(row) for row in scored.table],
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN: a distance that is not defined is None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
