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

import numpy as np
from numpy.typing import NDArray

from kmunet.config import Params
from kmunet.data.digest import sha256_of
from kmunet.data.store import PackedSet, open_packed
from kmunet.errors import ServiceError
from pipelines.evidence import (
    flatten,
    git_commit,
    lineage,
    registered_name,
    tags,
    used_params,
)
from pipelines.fair import fair_rows, learnt_from
from pipelines.gate import FEWEST, Decision, decide, scores, unfair
from pipelines.inputs import INPUTS, inputs_table
from pipelines.paths import Paths
from pipelines.stage import PROMOTED, stage_main
from pipelines.tracking import (
    CHALLENGER,
    CHAMPION,
    LEARNT_FROM,
    ModelVersion,
    Record,
    Registry,
)
from pipelines.tracking_live import deliver_pending


def run(params: Params, paths: Paths) -> None:
    """Register models/<dataset> as `<prefix>-<dataset>` and write registered/."""
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    registry = Registry(paths.root, registered_name(params, paths.dataset))
    with suppress(Exception):  # what trainings could not send: no matter of this model
        deliver_pending(paths.root)
    identity = _identity(params, paths)
    version = registry.find("identity", identity)
    if version is None:
        version = registry.add(_record(params, paths, packed, identity), paths.model)
        print(f"{registry.name}: version {version.version}, alias {CHALLENGER}")
    registry.set_alias(CHALLENGER, version.version)
    if "gate" in version.tags:
        print(f"{registry.name}: version {version.version} is registered already")
    else:
        _pass_gate(params, packed, registry, version)
    _write(paths.registration, {"identity": identity, "model": registry.name})


def promote(registry: Registry, version: str, champion: ModelVersion | None) -> None:
    """Move the alias, remembering which version was replaced."""
    replaced = champion.version if champion else ""
    registry.tag(version, "replaced", replaced)
    registry.set_alias(CHAMPION, version)


def _pass_gate(
    params: Params, packed: PackedSet, registry: Registry, version: ModelVersion
) -> None:
    champion = registry.alias(CHAMPION)
    decision = _compare(params, packed, registry, version, champion)
    if decision.promote:
        promote(registry, version.version, champion)
    registry.tag(version.version, "gate", decision.reason)
    verdict = PROMOTED if decision.promote else "stays challenger"
    print(f"{registry.name}: version {version.version} {verdict}: {decision.reason}")


def _compare(
    params: Params,
    packed: PackedSet,
    registry: Registry,
    version: ModelVersion,
    champion: ModelVersion | None,
) -> Decision:
    """Both on the same test images, without those that the champion has learnt from."""
    test, gate = packed.indices("test").tolist(), params.register_.gate
    fair = fair_rows(registry, champion, packed)
    if champion and len(fair) < min(FEWEST, len(test)):
        return unfair(len(test) - len(fair), len(test))

    def apply(candidate: ModelVersion) -> NDArray[np.float64]:
        with registry.apply(candidate.version, packed.images, fair) as found:
            masks = (packed.masks[row] for row in fair)
            threshold = params.evaluate.threshold
            return scores(found, masks, packed.classes, gate.metric, threshold)

    rival = apply(champion) if champion else None
    groups = [packed.records[row].group for row in fair]
    decision = decide(apply(version), rival, gate, params.evaluate, groups)
    if len(fair) == len(test):
        return decision
    left_out = f"; left out, as the champion learnt from them: {len(test) - len(fair)}"
    return Decision(decision.promote, decision.reason + left_out)


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
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise ServiceError(
            f"{path}: no such file; run the stages before register first (dvc repro)"
        ) from None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(stage_main("register", run))
