"""How a data set is divided: protocol `paper`, or `clean`, also in folds.

`paper` is what the KM-UNet code does: scikit-learn's train_test_split on sorted ids,
20 % held out, which it selects on and reports. `clean` breaks no group, keeps official
test sets, and does not depend on file names or order.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from kmunet.data.groups import WORDS, Link, name_groups
from kmunet.data.record import BOTH, LEFT_OUT, SPLITS, Record
from kmunet.data.splits import SplitShares, deal
from kmunet.data.stable import met_by_chance, place_each
from kmunet.errors import ConfigError, DataError

VERSION = 1
PAPER_TEST = 0.2
_PRIORITY = {"test": 2, "validation": 1, "train": 0}
Kept = Literal["", "official", "declared"]


class SplitRules(SplitShares, Protocol):
    """kmunet.config.SplitParams, or anything with these."""

    @property
    def protocol(self) -> str: ...
    @property
    def folds(self) -> int: ...
    @property
    def fold(self) -> int: ...
    @property
    def official(self) -> bool: ...
    @property
    def stable(self) -> bool: ...


@dataclass(frozen=True)
class Known:
    """What a source says of each record, and how binding its split is."""

    splits: Sequence[str | None]
    groups: Sequence[str | None]
    kind: Kept = ""


@dataclass(frozen=True)
class Division:
    """Place of each record (SPLITS, BOTH or LEFT_OUT), its group, and what to know."""

    places: tuple[str, ...]
    groups: tuple[str | None, ...]
    notes: tuple[str, ...] = ()

    def noting(self, notes: Sequence[str]) -> "Division":
        """The same with more to know."""
        return replace(self, notes=(*self.notes, *notes))


def divide(
    records: Sequence[Record], links: Sequence[Link], known: Known, rules: SplitRules
) -> Division:
    """Divide `records` by the rules. Raises DataError where a leak is left."""
    if rules.protocol == "paper":
        return _paper(records, links, known, rules.seed)
    keep = rules.official and bool(known.kind)
    splits = _hints(known, rules) if keep else [None] * len(records)
    labels = list(known.groups)
    notes: list[str] = []
    if keep and known.kind == "official":
        labels, notes = _as_official(labels, splits)
    groups = name_groups(records, links, labels)
    if keep and known.kind == "declared":
        _refuse_declared_leak(records, groups, splits)
    places = _spread_over_groups(groups, splits)
    lost = sum(place == LEFT_OUT for place in places)
    if lost:
        notes.append(
            f"left out, as an image of the same view is in an official test or "
            f"validation set: {lost}"
        )
    filled, said = _fill(records, groups, known.groups, places, rules)
    notes += said
    require_no_leak(records, filled, links, groups)
    return Division(tuple(filled), tuple(groups), tuple(notes))


def require_no_leak(
    records: Sequence[Record],
    places: Sequence[str],
    links: Sequence[Link],
    groups: Sequence[str | None],
) -> None:
    """Raise DataError with the pair that lies on two sides."""
    reasons = [(link.a, link.b, f"show {WORDS[link.kind]}") for link in links]
    first: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group is not None and places[row] != LEFT_OUT:
            reasons.append((first.setdefault(group, row), row, f"are of '{group}'"))
    for a, b, reason in reasons:
        if LEFT_OUT not in (places[a], places[b]) and places[a] != places[b]:
            raise DataError(
                f"leak: {records[a].id} ({places[a]}) and {records[b].id} "
                f"({places[b]}) {reason}; a group must lie in one split"
            )


def artifact(
    records: Sequence[Record], division: Division, settings: dict[str, Any]
) -> bytes:
    """splits.json: who is where and why, the same bytes for the same division."""
    content = sorted(record.sha256 for record in records)
    table: dict[str, Any] = {
        "version": VERSION,
        "settings": settings,
        "content": hashlib.sha256("".join(content).encode()).hexdigest(),
        "counts": dict(sorted(Counter(division.places).items())),
        "splits": {
            record.id: place
            for record, place in zip(records, division.places, strict=True)
        },
        "groups": {
            record.id: group
            for record, group in zip(records, division.groups, strict=True)
            if group is not None
        },
        "notes": list(division.notes),
    }
    return (json.dumps(table, sort_keys=True, indent=1) + "\n").encode()


def _paper(
    records: Sequence[Record], links: Sequence[Link], known: Known, seed: int
) -> Division:
    if len(records) < 2:
        raise DataError("1 image cannot be divided; add images")
    order = sorted(range(len(records)), key=lambda row: records[row].id)
    held = math.ceil(PAPER_TEST * len(records))
    # Equals train_test_split(ids, test_size=0.2, random_state=seed).
    shuffled = np.random.RandomState(seed).permutation(len(records))
    places = ["train"] * len(records)
    for place in shuffled[:held]:
        places[order[place]] = BOTH
    groups = name_groups(records, links, known.groups)
    crossing = [link for link in links if places[link.a] != places[link.b]]
    notes = ["protocol 'paper' selects the epoch on the images that it reports"]
    if crossing:
        one = crossing[0]
        notes.append(
            f"protocol 'paper' leaks: {len(crossing)} pairs of one view lie on both "
            f"sides, {records[one.a].id} = {records[one.b].id}, ..."
        )
    both = _groups_on_two_sides(groups, places)
    if both:
        notes.append(f"protocol 'paper' leaks: {len(both)} groups lie on both sides")
    return Division(tuple(places), tuple(groups), tuple(notes))


def _hints(known: Known, rules: SplitRules) -> list[str | None]:
    """The declared splits; in folds, only the test set stays as it is."""
    if rules.folds == 1:
        return list(known.splits)
    return ["train" if split == "validation" else split for split in known.splits]


def _as_official(
    labels: list[str | None], splits: Sequence[str | None]
) -> tuple[list[str | None], list[str]]:
    """Known groups cut where the makers of the data set cut them; and a note of it."""
    cut = _groups_on_two_sides(labels, [split or "train" for split in splits])
    if not cut:
        return labels, []
    apart = [
        f"{label} in {split or 'train'}" if label in cut else label
        for label, split in zip(labels, splits, strict=True)
    ]
    note = f"the official split has {len(cut)} known groups on two sides: "
    return apart, [note + ", ".join(sorted(cut)[:3]) + ", ..." * (len(cut) > 3)]


def _refuse_declared_leak(
    records: Sequence[Record],
    groups: Sequence[str | None],
    splits: Sequence[str | None],
) -> None:
    first: dict[str, int] = {}
    for row, (group, split) in enumerate(zip(groups, splits, strict=True)):
        if group is None or split is None:
            continue
        other = first.setdefault(group, row)
        if splits[other] != split:
            raise DataError(
                f"leak in the declared split: {records[other].id} ({splits[other]}) "
                f"and {records[row].id} ({split}) belong together ('{group}'); "
                "correct the split column, or set split.official to false"
            )


def _spread_over_groups(
    groups: Sequence[str | None], splits: Sequence[str | None]
) -> list[str | None]:
    """The held-out side of a group keeps its place; the rest is left out of the others.

    Records without a place go with their group.
    """
    best: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if group is not None and split is not None:
            best[group] = max(best.get(group, split), split, key=_PRIORITY.__getitem__)
    places: list[str | None] = []
    for group, split in zip(groups, splits, strict=True):
        kept = best.get(group) if group is not None else None
        places.append(LEFT_OUT if split and kept and split != kept else split or kept)
    return places


def _fill(
    records: Sequence[Record],
    groups: Sequence[str | None],
    declared: Sequence[str | None],
    places: Sequence[str | None],
    rules: SplitRules,
) -> tuple[list[str], list[str]]:
    """Deal what has no place yet, or only `train`, to the splits that are not fixed.

    And what to know of it. `declared`: the groups by the source's own names.
    """
    fixed = {place for place in places if place in ("validation", "test")}
    names, shares = _shares(rules, fixed)
    pool = [row for row, place in enumerate(places) if place in (None, "train")]
    filled = [place or "train" for place in places]
    if not pool:
        raise DataError("no images to train on: all are declared validation or test")
    if len(names) == 1:
        return filled, []
    own = [records[row] for row in pool]
    labels = [groups[row] for row in pool]
    if rules.stable:
        known = [declared[row] for row in pool]
        dealt = place_each(own, shares, rules.seed, labels, known)
    else:
        dealt = deal(own, shares, rules.seed, labels)
    for row, part in zip(pool, dealt, strict=True):
        filled[row] = names[part]
    notes = _taken(places, filled) if rules.folds == 1 else []
    if rules.stable:
        notes.append(met_by_chance(dealt, names, shares))
    return filled, notes


def _taken(places: Sequence[str | None], filled: Sequence[str]) -> list[str]:
    """A note of each split that the source does not declare, filled from `train`."""
    declared = [now for was, now in zip(places, filled, strict=True) if was == "train"]
    return [
        f"the source declares train and no {name}: {declared.count(name)} of its "
        f"{len(declared)} training images are in {name}"
        for name in SPLITS[1:]
        if name in declared
    ]


def _shares(rules: SplitRules, fixed: set[str]) -> tuple[list[str], list[float]]:
    """Name and share of each part that the pool is dealt to."""
    if rules.folds == 1:
        names = ["train"] + [name for name in SPLITS[1:] if name not in fixed]
        held = {"validation": rules.validation, "test": rules.test}
        shares = [held[name] for name in names[1:]]
        return names, [1.0 - sum(shares), *shares]
    names = ["train"] * rules.folds
    if "test" in fixed:
        names[rules.fold] = "validation"
    elif rules.folds == 2:
        raise ConfigError(
            "params.yaml: split.folds: 2 folds cannot be train, validation and "
            "test; set at least 3 (2 will do where there is an official test set)"
        )
    else:
        names[rules.fold] = "test"
        names[(rules.fold + 1) % rules.folds] = "validation"
    return names, [1.0 / rules.folds] * rules.folds


def _groups_on_two_sides(
    groups: Sequence[str | None], places: Sequence[str]
) -> set[str]:
    sides: dict[str, set[str]] = defaultdict(set)
    for group, place in zip(groups, places, strict=True):
        if group is not None:
            sides[group].add(place)
    return {group for group, found in sides.items() if len(found) > 1}
