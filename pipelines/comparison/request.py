"""What is compared: models, seeds, budget and data, checked before anything is trained.

Beside the model's name, the seed and the budget, all runs have the same params.yaml.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kmunet.config import Params, load_params, parse_params
from kmunet.data.store import PackedSet, open_packed
from kmunet.device import choose_device
from kmunet.errors import ConfigError, DataError
from kmunet.models.registry import BASELINES, MODELS
from pipelines.as_prepared import check_given, check_prepared
from pipelines.overrides import Value, expand, overridden
from pipelines.paths import Paths, state_dir
from pipelines.receipt import SCORING, TRAINING, code_digest

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
    """One training: a model and a seed, with all parameters and a place of its own."""

    model: str
    seed: int
    params: Params
    limit: Limit
    paths: Paths
    folder: Path
    fingerprint: str  # of the data and their split, as they are now

    @property
    def name(self) -> str:
        return f"{self.model}, seed {self.seed}"

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


def read_params(paths: Paths, overrides: Mapping[str, Value]) -> Params:
    """params.yaml with the overrides. Raises ConfigError naming the key."""
    for key, reason in RESERVED.items():
        if key in overrides:
            raise ConfigError(f"--set {key}: {reason}")
    if not paths.params.is_file():
        raise ConfigError("no params.yaml here: run from the project's root")
    params = overridden(paths.params, expand(paths.params, overrides))
    params.size(paths.dataset)
    remedy = _remedy(params, paths.dataset)
    check_given(load_params(paths.params), params, paths.dataset, remedy)
    return params


def open_data(params: Params, paths: Paths) -> PackedSet:
    """The prepared data. DataError with the command where they are not as needed."""
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
    packed: PackedSet,
    models: Sequence[str],
    seeds: Sequence[int],
    limit: Limit,
) -> list[Run]:
    """A run for each model and seed. The same content has the same folder."""
    home = state_dir(paths.root) / "compare"
    runs = []
    for model in models:
        for seed in seeds:
            own = run_params(params, model, seed, limit)
            key = _key(own, packed, limit)
            folder = home / f"{paths.dataset}-{model}-{key}"
            data = packed.fingerprint
            runs.append(Run(model, seed, own, limit, paths, folder, data))
    return runs


def run_params(params: Params, model: str, seed: int, limit: Limit) -> Params:
    """params.yaml for one run. Raises ConfigError, as for widths or a warm-up."""
    raw: dict[str, Any] = params.model_dump(mode="json", by_alias=True)
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
        torch.__version__,
    ]
    return _digest(json.dumps(content, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _each_once(argument: str, values: Sequence[Any]) -> None:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ConfigError(f"{argument}: {twice[0]} is given twice")
