"""What a sweep will train, checked first: a trial a fold, seed and data set.

A trial is named by a hash of its parameters, data, split and code, as a training's run
is: what is finished is found again, what is half done goes on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kmunet.config import Params, parse_params
from kmunet.data.store import PackedSet
from pipelines.folds import check_folds, divided_in_passing, each_fold, open_dataset
from pipelines.overrides import Value, assign
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


def plan_different(
    root: Path,
    params: Params,
    dataset: str,
    asked: Iterable[tuple[Mapping[str, Value], Mapping[str, Value]]],
) -> Iterator[Trial]:
    """A trial for each values and changes to call it by, one at a time.

    Values may be of no account, as those of a preset that is not in use: of those that
    are the same training, the first alone.
    """
    prepared = open_dataset(root, params, dataset)
    divisions: dict[str, PackedSet] = {}
    seen: set[str] = set()
    for values, changes in asked:
        own = changed(params, values)
        key = f"{own.split.model_dump_json()} {own.train.size}"
        if key not in divisions:
            divisions[key] = divided_in_passing(prepared, own)
        trial = _trial(dataset, own, divisions[key], changes)
        if trial.name not in seen:
            seen.add(trial.name)
            check_before_start(own, divisions[key])
            yield trial


def _plan_dataset(
    root: Path, params: Params, dataset: str, seeds: Sequence[int]
) -> list[Trial]:
    prepared = open_dataset(root, params, dataset)
    check_folds(params, prepared, dataset)
    trials = []
    for chosen in each_fold(params):
        packed = divided_in_passing(prepared, chosen)
        check_before_start(chosen, packed)
        for seed in seeds:
            changes = {"split.fold": chosen.split.fold, "train.seed": seed}
            own = changed(params, changes)
            trials.append(_trial(dataset, own, packed, changes))
    return trials


def _trial(
    dataset: str, params: Params, packed: PackedSet, changes: Mapping[str, Value]
) -> Trial:
    name = run_name(params, dataset, packed)
    notes = tuple(packed.division["notes"])
    return Trial(name, dataset, params, packed.fingerprint, dict(changes), notes)


def notes_of(trials: Sequence[Trial]) -> list[str]:
    """What is to be known of their splits, each note once."""
    return list(dict.fromkeys(note for trial in trials for note in trial.notes))
