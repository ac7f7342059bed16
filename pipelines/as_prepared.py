"""Values that a sweep or a comparison cannot change: its data are prepared already.

They would change nothing and be recorded as true. `check_given` refuses those that are
not params.yaml's, `check_prepared` data that were made with others.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kmunet.config import Params
from kmunet.data.prepared import Prepared
from kmunet.errors import ConfigError, DataError
from pipelines.evidence import flatten


def how_to_prepare(params: Params, dataset: str) -> str:
    """The command that prepares a data set."""
    if dataset in params.datasets:
        return f"`dvc repro prepare@{dataset}`"
    return f"`.venv/bin/python -m pipelines.prepare --dataset {dataset}`"


def check_given(base: Params, params: Params, dataset: str, how: str) -> None:
    """Raise ConfigError for a value of `params` that params.yaml would have to have.

    base: params.yaml as it is. how: what brings the data to it then.
    """
    if params.train.workers != base.train.workers:
        raise ConfigError("train.workers: a model is trained by one process here")
    own, given = _making(base, dataset), _making(params, dataset)
    for key, value in given.items():
        if value != own[key]:
            raise ConfigError(
                f"{key}: {dataset} is prepared with params.yaml's "
                f"{json.dumps(own[key])}, not {json.dumps(value)}: set it there, then "
                f"{how}"
            )


def check_prepared(prepared: Prepared, params: Params, dataset: str, how: str) -> None:
    """Raise DataError where the data were made with other values than `params` has.

    Of what they record: kind, sizes and classes of the source, and prepare.native.
    """
    source, header = params.source(dataset), prepared.header
    place, classes = f"sources.{dataset}", _classes(header)
    pairs = {
        f"{place}.kind": (header["source"], source.kind),
        f"{place}.sizes": (header["sizes"], list(source.sizes)),
        f"{place}.classes": (classes, _named(source.classes, header, classes)),
        "prepare.native": (header["native"], params.prepare.native),
    }
    for key, (then, now) in pairs.items():
        if then != now:
            raise DataError(
                f"data/prepared/{dataset}: made with {key} {json.dumps(then)}, but "
                f"params.yaml has {json.dumps(now)}; {how}"
            )


def _making(params: Params, dataset: str) -> dict[str, Any]:
    """By dotted key, what the raw and the prepared data are made with."""
    source = params.source(dataset).model_dump(mode="json")
    return flatten(
        {
            "sources": {dataset: source},
            "prepare": params.prepare.model_dump(mode="json"),
            "synthesize": params.synthesize.model_dump(mode="json"),
        }
    )


def _classes(header: Mapping[str, Any]) -> list[str]:
    """Of BUSI the folders that were read, else what the values of masks mean."""
    return list(header["categories" if header["source"] == "busi" else "classes"])


def _named(
    names: Sequence[str] | None, header: Mapping[str, Any], classes: list[str]
) -> list[str] | None:
    """As `_classes` would have them; without names, all of BUSI or one of its own."""
    if header["source"] == "busi":
        return classes if names is None else sorted(names)
    if names is None:
        return classes if len(classes) == 1 else None
    return list(names)
