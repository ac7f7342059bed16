"""Train, validation and test by content: the same for every file order and naming.

Examples that share pixels or a group form a unit that is never broken. Units are
ordered by (category, lesion size, seeded hash of content) and dealt in turn to the
split that is furthest behind its share (apportionment by largest deficit), so each
stratum and the whole come within about one example of the declared shares.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from kmunet.data.record import SPLITS, Record, Split
from kmunet.errors import DataError


class SplitShares(Protocol):
    """kmunet.config.PrepareParams, or anything with these."""

    @property
    def seed(self) -> int: ...
    @property
    def validation(self) -> float: ...
    @property
    def test(self) -> float: ...


@dataclass(frozen=True)
class _Unit:
    members: tuple[int, ...]
    stratum: tuple[str, str]
    rank: str  # seeded hash of the members' pixels


def split(
    records: Sequence[Record],
    params: SplitShares,
    groups: Sequence[Hashable | None] | None = None,
) -> list[Split]:
    """Split of each record. `groups`: equal labels stay together (None: alone).

    Each split gets at least one unit. Raises DataError with fewer than three units.
    """
    units = _units(records, groups, params.seed)
    if len(units) < len(SPLITS):
        raise DataError(
            f"{len(units)} distinct image{'s' if len(units) > 1 else ''} (or groups) "
            f"cannot fill train, validation and test; add images: at least "
            f"{len(SPLITS)} distinct ones are needed"
        )
    shares = (1.0 - params.validation - params.test, params.validation, params.test)
    chosen = _fill_empty(units, _deal(units, shares))
    answer: list[Split] = ["train"] * len(records)
    for unit, place in zip(units, chosen, strict=True):
        for member in unit.members:
            answer[member] = SPLITS[place]  # type: ignore[call-overload]
    return answer


def _units(
    records: Sequence[Record], groups: Sequence[Hashable | None] | None, seed: int
) -> list[_Unit]:
    parent = list(range(len(records)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[tuple[str, Hashable], int] = {}
    for index, record in enumerate(records):
        keys: list[tuple[str, Hashable]] = [("pixels", record.image_sha256)]
        if groups is not None and groups[index] is not None:
            keys.append(("group", groups[index]))
        for key in keys:
            parent[find(index)] = find(first.setdefault(key, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(records)):
        members[find(index)].append(index)
    strata = _strata(records)
    units = [_unit(records, strata, found, seed) for found in members.values()]
    return sorted(units, key=lambda unit: (unit.stratum, unit.rank))


def _unit(
    records: Sequence[Record],
    strata: Sequence[tuple[str, str]],
    members: list[int],
    seed: int,
) -> _Unit:
    counts = Counter(strata[member] for member in members)
    stratum = min(counts, key=lambda key: (-counts[key], key))
    content = "".join(sorted(records[member].sha256 for member in members))
    rank = hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()
    return _Unit(tuple(members), stratum, rank)


def _strata(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Category and lesion size: none, or below or above the median share."""
    shares = [record.foreground for record in records if record.foreground > 0.0]
    middle = median(shares) if shares else 0.0

    def size(share: float) -> str:
        if share == 0.0:
            return "empty"
        return "small" if share <= middle else "large"

    return [(record.category or "", size(record.foreground)) for record in records]


def _deal(units: Sequence[_Unit], shares: tuple[float, ...]) -> list[int]:
    given = [0] * len(shares)
    total = 0
    chosen = []
    for unit in units:
        total += len(unit.members)
        # rounded: a tie must not hang on the last bit of a sum
        behind = [round(s * total - g, 9) for s, g in zip(shares, given, strict=True)]
        place = behind.index(max(behind))
        given[place] += len(unit.members)
        chosen.append(place)
    return chosen


def _fill_empty(units: Sequence[_Unit], chosen: list[int]) -> list[int]:
    """Give each empty split the smallest unit of the split with the most units."""
    for place in range(len(SPLITS)):
        if place in chosen:
            continue
        counts = Counter(chosen)
        donor = max(counts, key=lambda split: (counts[split], -split))
        own = [index for index, split in enumerate(chosen) if split == donor]
        small = min(own, key=lambda i: (len(units[i].members), units[i].rank))
        chosen[small] = place
    return chosen
