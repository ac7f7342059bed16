"""Stage register: record the run in MLflow, make a version, and let the gate decide.

Idempotent: a model that is registered already is found by its identity, a hash of
what it is made of, and not registered again.
"""

import csv
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from kmunet.config import Params
from kmunet.data.digest import sha256_of
from kmunet.data.store import PackedSet, open_packed
from kmunet.errors import CheckpointError, ServiceError
from pipelines.evidence import (
    flatten,
    git_commit,
    lineage,
    registered_name,
    tags,
    used_params,
)
from pipelines.fair import learnt_from
from pipelines.inputs import INPUTS, inputs_table
from pipelines.own_data import require_own_data
from pipelines.paths import Paths
from pipelines.promotion import is_judged, pass_gate
from pipelines.stage import short, stage_main
from pipelines.tracking import CHALLENGER, LEARNT_FROM, Record, Registry
from pipelines.tracking_live import deliver_pending


def run(params: Params, paths: Paths) -> None:
    """Register models/<dataset> as `<prefix>-<dataset>` and write registered/."""
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    _check(paths, packed)
    registry = Registry(paths.root, registered_name(params, paths.dataset))
    with suppress(Exception):  # what trainings could not send: no matter of this model
        deliver_pending(paths.root)
    identity = _identity(params, paths)
    version = registry.find("identity", identity)
    if version is None:
        version = registry.add(_record(params, paths, packed, identity), paths.model)
        print(f"{registry.name}: version {version.version}, alias {CHALLENGER}")
    registry.set_alias(CHALLENGER, version.version)
    if is_judged(params, version):
        print(f"{registry.name}: version {version.version} is registered already")
    else:
        pass_gate(params, packed, registry, version)
    _write(paths.registration, {"identity": identity, "model": registry.name})


def _check(paths: Paths, packed: PackedSet) -> None:
    """That model, metrics and split are of one another; CheckpointError, else."""
    weights = _sha256(paths.model / "model.safetensors")
    card = json.loads(_there(paths.model / "model.json").read_bytes())
    metrics = json.loads(_there(paths.metrics).read_bytes())
    again = f"run `dvc repro register@{paths.dataset}`, which does what is missing"
    require_own_data(card, packed, paths, again)
    if metrics.get("checkpoint") != weights:
        raise CheckpointError(
            f"{short(paths.metrics)}: measured on other weights than those in "
            f"{short(paths.model)}; {again}"
        )


def _record(params: Params, paths: Paths, packed: PackedSet, identity: str) -> Record:
    metrics = json.loads(paths.metrics.read_text(encoding="utf-8"))
    with (paths.model / "history.csv").open(encoding="utf-8") as file:
        history = [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    lock = paths.root / "dvc.lock"
    used = used_params(params, paths.dataset)
    evidence = lineage(paths, used)
    return Record(
        params=flatten(used),
        metrics=numbers(metrics, "test"),
        history=history,
        tags={
            "dataset": paths.dataset,
            "identity": identity,
            "data_fingerprint": packed.fingerprint,
            "checkpoint_sha256": _sha256(paths.model / "model.safetensors"),
            "git_commit": git_commit(paths.root) or "unknown",
            **tags(evidence),
        },
        shape=packed.images.shape,
        lineage=evidence,
        texts={LEARNT_FROM: learnt_from(packed), INPUTS: inputs_table(packed)},
        fingerprint=packed.fingerprint,
        folders={"report": paths.report, "checkpoint": paths.model},
        files=(paths.metrics, paths.params, *([lock] if lock.exists() else [])),
    )


def numbers(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    """Return the numeric leaves of the metrics, with dotted keys."""
    return {
        key: float(value)
        for key, value in flatten(metrics, prefix).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _identity(params: Params, paths: Paths) -> str:
    """What the version is made of; not when, where or by whom it was registered.

    The parameters count: two trainings may end in the same best weights.
    """
    parts = [paths.model / name for name in ("model.safetensors", "model.json")]
    digests = [_sha256(part) for part in [*parts, paths.metrics]]
    used = json.dumps(used_params(params, paths.dataset), sort_keys=True)
    return hashlib.sha256("".join([*digests, used]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return sha256_of(_there(path))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ServiceError(
            f"{path}: no such file; run the stages before register first (dvc repro)"
        )
    return path


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(stage_main("register", run))
