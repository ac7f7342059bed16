"""A new version before the gate: the comparison, the aliases, and what is recorded.

What was promoted is judged no more, whatever became of it. What stayed challenger is
judged again where the gate's settings are others than it was judged by.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kmunet.config import Params
from kmunet.data.store import PackedSet
from kmunet.errors import UnavailableError
from pipelines.fair import fair_rows, learnt_from, untouched
from pipelines.gate import FEWEST, Decision, decide, scores, selected_on, unfair
from pipelines.stage import PROMOTED
from pipelines.tracking import CHAMPION, ModelVersion, Registry

TRIES = 3  # with another champion each time
# Tags of a version. PENDING is of a promotion under way, for the try after a kill.
GATE, SETTINGS, PENDING, REPLACED = "gate", "gate_settings", "gate_pending", "replaced"


def is_judged(params: Params, version: ModelVersion) -> bool:
    """Whether the gate has nothing to say of it that it has not said."""
    tags: Mapping[str, str] = version.tags
    return GATE in tags and (
        REPLACED in tags or tags.get(SETTINGS) == _settings(params)
    )


def pass_gate(
    params: Params, packed: PackedSet, registry: Registry, version: ModelVersion
) -> None:
    """Judge, promote what is better, record why, and say so."""
    decision = _judge(params, packed, registry, version)
    registry.tag(version.version, SETTINGS, _settings(params))
    registry.tag(version.version, GATE, decision.reason)
    verdict = PROMOTED if decision.promote else "stays challenger"
    print(f"{registry.name}: version {version.version} {verdict}: {decision.reason}")


def _judge(
    params: Params, packed: PackedSet, registry: Registry, version: ModelVersion
) -> Decision:
    for _ in range(TRIES):
        champion = registry.alias(CHAMPION)
        if _number(champion) == _number(version):  # the try before ended in between
            return Decision(True, version.tags.get(PENDING, "set by hand"))
        decision = _compare(params, packed, registry, version, champion)
        if not decision.promote:
            return decision
        registry.tag(version.version, PENDING, decision.reason)
        if _number(registry.alias(CHAMPION)) == _number(champion):
            registry.tag(version.version, REPLACED, _number(champion))
            registry.set_alias(CHAMPION, version.version)
            return decision
    raise UnavailableError(
        f"{registry.name}: its champion changed {TRIES} times while version "
        f"{version.version} was compared with it; run the same command again"
    )


def _compare(
    params: Params,
    packed: PackedSet,
    registry: Registry,
    version: ModelVersion,
    champion: ModelVersion | None,
) -> Decision:
    """Both on the same test images, without those that either has learnt from.

    Each at the threshold that it was registered with.
    """
    test, gate = packed.indices("test").tolist(), params.register_.gate
    own = set(untouched(packed, frozenset(learnt_from(packed).split())))
    fair = fair_rows(registry, champion, packed)
    enough = min(FEWEST, len(test))
    if champion and len(fair) < enough:
        return unfair(len(test) - len(fair), len(test))
    both = [row for row in fair if row in own]
    if champion and len(both) < enough:
        return selected_on(len(fair) - len(both), len(fair))
    rows = both if champion else test

    def apply(candidate: ModelVersion) -> NDArray[np.float64]:
        recorded = registry.params(candidate).get("evaluate.threshold")
        threshold = float(recorded or params.evaluate.threshold)
        with registry.apply(candidate.version, packed.images, rows) as found:
            masks = (packed.masks[row] for row in rows)
            return scores(found, masks, packed.classes, gate.metric, threshold)

    rival = apply(champion) if champion else None
    groups = [packed.records[row].group for row in rows]
    decision = decide(apply(version), rival, gate, params.evaluate, groups)
    return Decision(decision.promote, decision.reason + _left_out(test, fair, rows))


def _left_out(test: list[int], fair: list[int], rows: list[int]) -> str:
    counts = {"champion": len(test) - len(fair), "challenger": len(fair) - len(rows)}
    return "".join(
        f"; left out, as the {who} learnt from them: {count}"
        for who, count in counts.items()
        if count > 0
    )


def _settings(params: Params) -> str:
    """Of the gate, as they are recorded."""
    return json.dumps(params.register_.gate.model_dump(mode="json"), sort_keys=True)


def _number(version: ModelVersion | None) -> str:
    return "" if version is None else str(version.version)
