"""What a sweep will train, checked first: a trial a fold, seed and data set.

A trial is named by a hash of its parameters, data, split and code, as a training's run
is: what is finished is found again, what is half done goes on.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kmunet.config import Params, parse_params
from kmunet.data.division import write_split
from kmunet.data.prepared import Prepared
from kmunet.data.store import PackedSet, open_packed, open_prepared
from kmunet.errors import ConfigError, DataError
from pipelines.as_prepared import check_prepared, how_to_prepare
from pipelines.overrides import Value, assign
from pipelines.paths import Paths
from pipelines.train import check_before_start, run_name


@dataclass(frozen=True)
class Trial:
    """One training of a sweep; `changes` set it apart from the others."""

    name: str  # of the data set, and a hash of all that determines its result
    dataset: str
    params: Params
    fingerprint: str  # of its images and split
    changes: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # on its split

    @property
    def label(self) -> str:
        """For people: `busi split.fold=1 train.seed=2`."""
        return " ".join([self.dataset, *(f"{k}={v}" for k, v in self.changes.items())])


def changed(params: Params, changes: Mapping[str, Value]) -> Params:
    """`params` with other values by dotted key, checked. Raises ConfigError."""
    values = params.model_dump(mode="json", by_alias=True)
    for key, value in changes.items():
        assign(values, key, value)
    return parse_params(values, "params.yaml with the sweep's values")


def plan_folds(
    root: Path, params: Params, datasets: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """Every fold of split.folds, every seed, every data set, in that order from inside.

    Raises KMUNetError: a data set that is unknown or not prepared, too few images or
    folds, folds where an official test set leaves nothing to rotate.
    """
    return [
        trial
        for dataset in datasets
        for trial in _plan_dataset(root, params, dataset, seeds)
    ]


def plan_one(
    root: Path,
    params: Params,
    dataset: str,
    values: Sequence[Mapping[str, Value]],
    changes: Sequence[Mapping[str, Value]],
) -> list[Trial]:
    """A trial for each of the `values`; `changes` are those to call it by."""
    prepared = open_dataset(root, params, dataset)
    trials = []
    for own, called in zip(values, changes, strict=True):
        chosen = changed(params, own)
        packed = _divided(prepared, chosen)
        check_before_start(chosen, packed)
        trials.append(_trial(dataset, chosen, packed, called))
    return trials


def open_dataset(root: Path, params: Params, dataset: str) -> Prepared:
    """The prepared data of one data set. DataError says how to prepare it."""
    params.size(dataset)
    paths, how = Paths(root, dataset), how_to_prepare(params, dataset)
    if not paths.prepared.is_dir():
        raise DataError(
            f"{dataset} is not prepared: data/prepared/{dataset} is missing; with the "
            f"download in data/raw/{dataset}/, run {how}"
        )
    prepared = open_prepared(paths.prepared)
    check_prepared(prepared, params, dataset, how)
    return prepared


def _plan_dataset(
    root: Path, params: Params, dataset: str, seeds: Sequence[int]
) -> list[Trial]:
    prepared = open_dataset(root, params, dataset)
    _check_folds(params, prepared, dataset)
    trials = []
    for fold in range(params.split.folds):
        chosen = changed(params, {"split.fold": fold})
        packed = _divided(prepared, chosen)
        check_before_start(chosen, packed)
        for seed in seeds:
            changes = {"split.fold": fold, "train.seed": seed}
            own = changed(params, changes)
            trials.append(_trial(dataset, own, packed, changes))
    return trials


def _check_folds(params: Params, prepared: Prepared, dataset: str) -> None:
    if params.split.folds < 2 or not params.split.official:
        return
    if prepared.header["splits"] and "test" in prepared.known_splits():
        raise ConfigError(
            f"{dataset} has a test set of its own, and {params.split.folds} folds "
            "would all be tested on it: no cross-validation; leave out --folds (seeds "
            "alone), or --set split.official=false to divide all images into folds"
        )


def _divided(prepared: Prepared, params: Params) -> PackedSet:
    """The split of these parameters, made in passing: no pixel is read."""
    settings = params.split.model_dump(mode="json")
    with tempfile.TemporaryDirectory(prefix="kmunet-split-") as folder:
        place = Path(folder, "split")
        write_split(prepared, place, params.split, settings)
        return open_packed(prepared.folder, place, params.train.size)


def _trial(
    dataset: str, params: Params, packed: PackedSet, changes: Mapping[str, Value]
) -> Trial:
    name = run_name(params, dataset, packed)
    notes = tuple(packed.division["notes"])
    return Trial(name, dataset, params, packed.fingerprint, dict(changes), notes)


def notes_of(trials: Sequence[Trial]) -> list[str]:
    """What is to be known of their splits, each note once."""
    return list(dict.fromkeys(note for trial in trials for note in trial.notes))
