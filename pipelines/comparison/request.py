"""What is compared: models, folds, seeds, budget and data, checked before all training.

Beside the model's name, the fold, the seed and the budget, all runs have the same
params.yaml.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from kmunet.config import Params, load_params, parse_params
from kmunet.data.store import PackedSet, open_packed
from kmunet.device import choose_device
from kmunet.errors import ConfigError, DataError
from kmunet.models.registry import BASELINES, MODELS
from pipelines.as_prepared import check_given, check_prepared
from pipelines.folds import check_folds, divided, each_fold, open_dataset
from pipelines.overrides import Value, expand, overridden
from pipelines.paths import Paths, state_dir
from pipelines.ray_code import versions
from pipelines.receipt import SCORING, TRAINING, code_digest
from pipelines.train import scan_backend

# Set by the arguments, or not by a comparison.
RESERVED = {
    "model.name": "--models names the models",
    "train.seed": "--seeds gives the seeds",
    "train.epochs": "the budget says how long: --epochs",
    "train.max_steps": "the budget says how long: --steps",
    "train.max_minutes": "the budget says how long: --minutes",
    "datasets": "name the data set as the first argument",
}
OWN = ("pipelines/comparison/worker.py", "pipelines/comparison/ledger.py")
ALL = (*TRAINING, *OWN, *SCORING)
ENDLESS = 10**6  # epochs, where something else is the budget
UNITS = {
    "minutes": "minutes",
    "cpu_minutes": "CPU minutes",
    "epochs": "epochs",
    "steps": "steps",
}
TIMED = ("minutes", "cpu_minutes")  # a faster machine goes further


@dataclass(frozen=True)
class Limit:
    """What each model may spend; `kind` is a key of UNITS."""

    kind: str
    amount: float

    def __str__(self) -> str:
        unit = UNITS[self.kind]
        return f"{self.amount:g} {unit[:-1] if self.amount == 1 else unit}"


@dataclass(frozen=True)
class Run:
    """One training of a model on a fold with a seed; its parameters and its place."""

    model: str
    seed: int
    params: Params
    limit: Limit
    paths: Paths
    folder: Path
    packed: PackedSet  # the data and their split, as they are now
    code: str  # digest of ALL, as it is now

    @property
    def fold(self) -> int:
        return self.params.split.fold

    @property
    def name(self) -> str:
        fold = f", fold {self.fold}" if self.params.split.folds > 1 else ""
        return f"{self.model}{fold}, seed {self.seed}"

    @property
    def weights(self) -> Path:
        """The model folder, as the stage `train` leaves it."""
        return self.folder / "model" / self.paths.dataset

    @property
    def scores(self) -> Path:
        """The test images, scored with these parameters by this code."""
        how = self.params.evaluate
        text = f"{how.resolution} {how.threshold} {code_digest(SCORING)}"
        return self.folder / f"scores-{_digest(text)}.json"


def check_models(names: Sequence[str]) -> None:
    """Raise ConfigError for a model that is unknown or named twice."""
    for name in names:
        if name not in MODELS:
            raise ConfigError(
                f"--models: unknown model '{name}'; known: {', '.join(MODELS)}"
            )
    _each_once("--models", names)


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ConfigError for a seed out of range or given twice."""
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seeds: {seed} must be 0 to {2**32 - 1}")
    _each_once("--seeds", seeds)


def read_params(
    paths: Paths, overrides: Mapping[str, Value], folds: int | None = None
) -> Params:
    """params.yaml with the overrides, in so many folds if they are given.

    Raises ConfigError naming the key.
    """
    for key, reason in RESERVED.items():
        if key in overrides:
            raise ConfigError(f"--set {key}: {reason}")
    if not paths.params.is_file():
        raise ConfigError("no params.yaml here: run from the project's root")
    values = expand(paths.params, overrides)
    if folds is not None:
        values |= {"split.folds": folds, "split.fold": 0}
    params = overridden(paths.params, values)
    params.size(paths.dataset)
    remedy = _remedy(params, paths.dataset)
    check_given(load_params(paths.params), params, paths.dataset, remedy)
    return params


def open_data(params: Params, paths: Paths) -> PackedSet:
    """The prepared data and their split, as `dvc repro` left them.

    DataError with the command where they are not as needed.
    """
    name, remedy = paths.dataset, _remedy(params, paths.dataset)
    for folder in (paths.prepared, paths.splits):
        if not folder.is_dir():
            place = folder.relative_to(paths.root)
            raise DataError(f"{place}: the data of {name} are not there; {remedy}")
    try:
        packed = open_packed(paths.prepared, paths.splits, params.train.size)
    except DataError as error:
        raise DataError(f"{error} ({remedy})") from None
    check_prepared(packed.prepared, params, name, remedy)
    _check_split(packed, params, paths)
    return packed


def open_folds(params: Params, paths: Paths) -> list[PackedSet]:
    """The prepared data with the split of each fold, kept beside the runs.

    Raises KMUNetError: data that are not prepared, or have an official test set.
    """
    prepared = open_dataset(paths.root, params, paths.dataset)
    check_folds(params, prepared, paths.dataset)
    of = f"{prepared.fingerprint} {code_digest(('kmunet/data',))}"
    found = []
    for own in each_fold(params):
        key = _digest(f"{of} {own.split.model_dump_json()}")
        folder = _home(paths) / f"{paths.dataset}-split-{key}"
        try:  # another comparison may be reading it
            packed = open_packed(prepared.folder, folder, own.train.size)
        except DataError:
            packed = divided(prepared, own, folder)
        found.append(packed)
    return found


def _check_split(packed: PackedSet, params: Params, paths: Paths) -> None:
    """DataError where the split is of other parameters, in params.yaml or given."""
    made, remedy = packed.division["settings"], _remedy(params, paths.dataset)
    settings = params.split.model_dump(mode="json")
    other = [key for key, value in settings.items() if made.get(key) != value]
    if not other:
        return
    keys, whose = ", ".join(f"split.{key}" for key in other), "params.yaml has now"
    if load_params(paths.params).split != params.split:
        whose, remedy = "is asked for", f"set it in params.yaml first, then {remedy}"
    raise DataError(
        f"data/splits/{paths.dataset}: made with another {keys} than {whose}; {remedy}"
    )


def _remedy(params: Params, name: str) -> str:
    """What prepares and splits a data set as params.yaml says."""
    remedy = f"`dvc repro split@{name}` prepares and splits it"
    if name in params.datasets:
        return remedy
    return (
        f"place the raw data under data/raw/{name}, add {name} to 'datasets' in "
        f"params.yaml, then {remedy}"
    )


def plan_runs(
    params: Params,
    paths: Paths,
    divisions: Sequence[PackedSet],
    models: Sequence[str],
    seeds: Sequence[int],
    limit: Limit,
) -> list[Run]:
    """A run for each model, division and seed. The same content has the same folder."""
    runs, code = [], code_digest(ALL)
    for model, packed, seed in product(models, divisions, seeds):
        own = run_params(params, packed, model, seed, limit)
        key = _key(own, packed, limit)
        folder = _home(paths) / f"{paths.dataset}-{model}-{key}"
        runs.append(Run(model, seed, own, limit, paths, folder, packed, code))
    return runs


def _home(paths: Paths) -> Path:
    return state_dir(paths.root) / "compare"


def run_params(
    params: Params, packed: PackedSet, model: str, seed: int, limit: Limit
) -> Params:
    """params.yaml for one run. Raises ConfigError, as for widths or a warm-up."""
    raw: dict[str, Any] = params.model_dump(mode="json", by_alias=True)
    raw["split"] = packed.division["settings"]
    raw["model"]["name"] = model
    if model in BASELINES:
        raw["model"]["deep_supervision"] = False  # as widths, of no meaning to them
    raw["train"] |= {
        "seed": seed,
        "workers": 1,
        "epochs": int(limit.amount) if limit.kind == "epochs" else ENDLESS,
        "max_steps": int(limit.amount) if limit.kind == "steps" else None,
        "max_minutes": None,
    }
    return parse_params(raw, "params.yaml with the arguments")


def machine(params: Params, limit: Limit) -> str:
    """The GPU or the kind of processor; the processor's model too, where time counts.

    Raises ConfigError where train.device is not there.
    """
    device = choose_device(params.train.device)
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else platform.machine()
    return f"{name}, {_processor()}" if limit.kind in TIMED else name


def _processor() -> str:
    """As Linux names its model; elsewhere, and where it has none, as Python does."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _key(params: Params, packed: PackedSet, limit: Limit) -> str:
    sections = params.model_dump(mode="json", by_alias=True)
    content = [
        packed.fingerprint,
        sections["model"],
        sections["train"],
        sections["presets"][params.augment],
        [limit.kind, limit.amount],
        [choose_device(params.train.device).type, machine(params, limit)],
        code_digest((*TRAINING, *OWN)),
        [scan_backend(params), versions()],
    ]
    return _digest(json.dumps(content, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _each_once(argument: str, values: Sequence[Any]) -> None:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ConfigError(f"{argument}: {twice[0]} is given twice")
