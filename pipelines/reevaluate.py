"""The champion on the test images of today: is it still what it was registered as?

`python -m pipelines.reevaluate --dataset NAME --out ANSWER.json`, after prepare and
split, at the size that the version sees. Drift is either of two things
(docs/operations.md#drift): the mean IoU is lower than at registration, beyond chance,
or images that came since differ.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.config import Params
from kmunet.data.resize import resize_maps
from kmunet.data.store import PackedSet, open_packed, open_prepared
from kmunet.evaluation import bootstrap_interval
from pipelines.answer import answer_main
from pipelines.change import change, enough
from pipelines.evidence import registered_name
from pipelines.fair import fair_rows
from pipelines.gate import FEWEST, FEWEST_GROUPS, scores
from pipelines.inputs import Shift, compare_inputs
from pipelines.paths import Paths
from pipelines.tracking import CHAMPION, ModelVersion, Registry
from pipelines.tracking_evaluation import Known, known, log_look

Masks = NDArray[np.uint8]


def run(params: Params, paths: Paths) -> dict[str, Any]:
    """Apply, compare, log; the answer as plain data. Nothing is logged without one."""
    registry = Registry(paths.root, registered_name(params, paths.dataset))
    champion = registry.alias(CHAMPION)
    if champion is None:
        return {"drift": False, "why": f"{registry.name} has no champion"}
    was = known(registry, champion)
    sizes = open_prepared(paths.prepared).sizes
    if was.size and was.size not in sizes:
        why = _other_sizes(str(champion.version), was.size, sizes, paths)
        return {"drift": False, "why": why, "version": str(champion.version)}
    packed = open_packed(paths.prepared, paths.splits, was.size or params.train.size)
    rows = fair_rows(registry, champion, packed)
    if not rows:
        why = "the champion learnt from all of today's test images"
        return {"drift": False, "why": why, "version": str(champion.version)}
    groups = [packed.records[row].group for row in rows]
    now = _interval(params, packed, registry, champion, was, rows, groups)
    shift = compare_inputs(was.inputs, packed) if was.inputs else Shift(0, 0)
    answer = _answer(champion, was, now, shift, groups)
    metrics = _metrics(now, shift, len(rows))
    data = packed.fingerprint, packed.images.shape
    answer["run"] = log_look(registry, champion, answer, metrics, data)
    return answer


def _interval(
    params: Params,
    packed: PackedSet,
    registry: Registry,
    champion: ModelVersion,
    was: Known,
    rows: list[int],
    groups: list[str | None],
) -> dict[str, float]:
    """Mean IoU and its interval, scored as the version was when it was registered."""
    threshold = float(was.params.get("evaluate.threshold", params.evaluate.threshold))
    native = was.params.get("evaluate.resolution") == "native"
    confidence = was.params.get("evaluate.confidence", params.evaluate.confidence)
    masks = [_mask(packed, row, native) for row in rows]
    with registry.apply(champion.version, packed.images, rows) as found:
        maps = _sized(found, masks) if native else iter(found)
        values = scores(maps, masks, packed.classes, "iou", threshold)
    low, high = bootstrap_interval(
        values,
        statistic=np.mean,
        samples=params.evaluate.bootstrap,
        confidence=float(confidence),
        seed=params.evaluate.seed,
        groups=groups,
    )
    return {"mean": float(values.mean()), "low": low, "high": high}


def _mask(packed: PackedSet, row: int, native: bool) -> Masks:
    return packed.prepared.native_mask(row) if native else packed.masks[row]


def _sized(
    found: NDArray[np.float32], masks: list[Masks]
) -> Iterator[NDArray[np.float32]]:
    for own, mask in zip(found, masks, strict=True):
        yield resize_maps(own, *mask.shape)


def _answer(
    champion: ModelVersion,
    was: Known,
    now: Mapping[str, float],
    shift: Shift,
    groups: list[str | None],
) -> dict[str, Any]:
    then = {
        key: was.metrics[name]
        for key in ("mean", "low", "high")
        if (name := f"test.iou.{key}") in was.metrics
    }
    found = change(now, then) if "low" in then and enough(groups) else {}
    fell = bool(found) and found["high"] < 0
    return {
        "version": str(champion.version),
        "images": len(groups),
        "iou": dict(now),
        "registered_iou": then,
        "change": found,
        "inputs": {
            "known": shift.known,
            "new": shift.new,
            "distances": dict(shift.distances),
            "p_values": dict(shift.p_values),
        },
        "fell": fell,
        "moved": list(shift.moved),
        "drift": bool(fell or shift.moved),
        "why": f"version {champion.version}: IoU {_shown(now)} on {len(groups)} test "
        f"images, {_compared(then, found)}; {_moved(shift)}",
    }


def _other_sizes(version: str, size: int, sizes: tuple[int, ...], paths: Paths) -> str:
    """Scores and statistics of inputs at another size are no news of the images."""
    return (
        f"version {version} sees images of {size} pixels, {paths.dataset} is prepared "
        f"at {', '.join(map(str, sizes))}: nothing was compared; add {size} to "
        f"sources.{paths.dataset}.sizes in params.yaml and run the stage prepare"
    )


def _compared(then: Mapping[str, float], found: Mapping[str, float]) -> str:
    if "low" not in then:
        return "registered without an interval"
    if not found:
        return (
            f"too few to compare with {_shown(then)} at registration: that needs "
            f"{FEWEST} images of {FEWEST_GROUPS} groups that it did not learn from"
        )
    below = "below" if found["high"] < 0 else "not below"
    return f"{below} {_shown(then)} at registration: {_shown(found, '+')}"


def _moved(shift: Shift) -> str:
    if not shift.p_values:
        return f"{shift.new} new groups of images, too few to compare"
    moved = ", ".join(f"{n} by {shift.distances[n]:.2f}" for n in shift.moved)
    return f"{shift.new} new groups of images: {moved or 'none moved'}"


def _shown(found: Mapping[str, float], sign: str = "") -> str:
    mean, *bounds = (
        f"{found[key]:{sign}.4f}" for key in ("mean", "low", "high") if key in found
    )
    return f"{mean} [{', '.join(bounds)}]" if bounds else mean


def _metrics(now: Mapping[str, float], shift: Shift, images: int) -> dict[str, float]:
    found = {f"test.iou.{key}": value for key, value in now.items()}
    distances = {f"inputs.{key}": value for key, value in shift.distances.items()}
    return {**found, **distances, "test.images": images, "inputs.new": shift.new}


def main(argv: list[str] | None = None) -> int:
    """Answer as JSON, and in words."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.reevaluate")
    return answer_main(parser, lambda params, paths, _: run(params, paths), argv)


if __name__ == "__main__":
    sys.exit(main())
