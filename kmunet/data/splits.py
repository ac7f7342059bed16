"""Train, validation and test by content: the same for every file order and naming.

Examples that share pixels or a group form a unit that is never broken. Units are
ordered by (category, lesion size, seeded hash of content) and dealt in turn to the
split that is furthest behind its share (apportionment by largest deficit), so each
stratum and the whole come within about one example of the declared shares.
"""

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from kmunet.data.groups import clusters
from kmunet.data.record import SPLITS, Record, Split
from kmunet.errors import DataError


class SplitShares(Protocol):
    """kmunet.config.SplitParams, or anything with these."""

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
    shares = (1.0 - params.validation - params.test, params.validation, params.test)
    places = deal(records, shares, params.seed, groups)
    return [SPLITS[place] for place in places]  # type: ignore[misc]


def deal(
    records: Sequence[Record],
    shares: Sequence[float],
    seed: int,
    groups: Sequence[Hashable | None] | None = None,
) -> list[int]:
    """Part 0, 1, ... of each record, in these shares (which sum to 1).

    Each part gets at least one unit. Raises DataError with fewer units than parts.
    """
    units = _units(records, groups, seed)
    if len(units) < len(shares):
        raise DataError(
            f"{len(units)} distinct image{'s' if len(units) > 1 else ''} (or groups) "
            f"cannot fill {parts(len(shares))}; add images: at least "
            f"{len(shares)} distinct ones are needed"
        )
    chosen = _fill_empty(units, _deal(units, shares), len(shares))
    answer = [0] * len(records)
    for unit, place in zip(units, chosen, strict=True):
        for member in unit.members:
            answer[member] = place
    return answer


def parts(count: int) -> str:
    """The parts of a split by name, folds by their number."""
    return "train, validation and test" if count == 3 else f"{count} parts"


def together(
    records: Sequence[Record], groups: Sequence[Hashable | None] | None
) -> list[list[int]]:
    """Rows of each unit: what shares pixels or a group."""
    labels: list[list[Hashable]] = [[("pixels", r.image_sha256)] for r in records]
    for own, group in zip(labels, groups or (), strict=False):
        if group is not None:
            own.append(("group", group))
    return clusters(len(records), [], labels)


def _units(
    records: Sequence[Record], groups: Sequence[Hashable | None] | None, seed: int
) -> list[_Unit]:
    strata = _strata(records)
    members = together(records, groups)
    units = [_unit(records, strata, found, seed) for found in members]
    # In a stratum, large units first: small ones then even out what they left.
    return sorted(units, key=lambda u: (u.stratum, -len(u.members), u.rank))


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


def _deal(units: Sequence[_Unit], shares: Sequence[float]) -> list[int]:
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


def _fill_empty(units: Sequence[_Unit], chosen: list[int], parts: int) -> list[int]:
    """Give each empty part the smallest unit of the part with the most units."""
    for place in range(parts):
        if place in chosen:
            continue
        counts = Counter(chosen)
        donor = max(counts, key=lambda split: (counts[split], -split))
        own = [index for index, split in enumerate(chosen) if split == donor]
        small = min(own, key=lambda i: (len(units[i].members), units[i].rank))
        chosen[small] = place
    return chosen
