"""Places that stay as data grow: each unit's by a hash of its own, not in its turn.

Dealing in turn meets the shares within an image, but one new image shifts all that
come after it, and a model then has learnt from most of tomorrow's test images. Here
sizes come within chance, strata are not evened out, and nobody moves but members of a
unit that a new image joins, or joins to another.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from kmunet.data.record import Record
from kmunet.data.splits import parts, together
from kmunet.errors import DataError


def place_each(
    records: Sequence[Record],
    shares: Sequence[float],
    seed: int,
    groups: Sequence[Hashable | None],
    names: Sequence[str | None],
) -> list[int]:
    """Part 0, 1, ... of each record, by its unit alone.

    `groups`: equal labels stay together; `names`: the groups that the source declares,
    which stand for their units however many images join them. Raises DataError where
    a part stays empty.
    """
    units = together(records, groups)
    answer = [0] * len(records)
    for members in units:
        place = _place(_key(records, names, members), shares, seed)
        for member in members:
            answer[member] = place
    if len(set(answer)) < len(shares):
        raise DataError(
            f"split.stable: by chance {len(units)} distinct images (or groups) do not "
            f"fill {parts(len(shares))}; set another split.seed, add images, or set "
            "split.stable to false"
        )
    return answer


def met_by_chance(
    dealt: Sequence[int], names: Sequence[str], shares: Sequence[float]
) -> str:
    """A note of how near chance came to the shares that were asked for."""
    asked: dict[str, float] = defaultdict(float)
    for name, share in zip(names, shares, strict=True):
        asked[name] += share
    counts = Counter(names[part] for part in dealt)
    found = ", ".join(
        f"{name} {100 * counts[name] / len(dealt):.1f} % ({100 * share:.1f} % asked)"
        for name, share in asked.items()
    )
    return f"split.stable: a place by each one's own hash, so shares by chance: {found}"


def _key(
    records: Sequence[Record], names: Sequence[str | None], members: Sequence[int]
) -> str:
    """What a unit keeps as it grows; of two that merge, one keeps its place."""
    declared = [name for member in members if (name := names[member]) is not None]
    if declared:
        return f"group {min(declared)}"
    # Of the image alone: a corrected mask moves nobody.
    return f"image {min(records[member].image_sha256 for member in members)}"


def _place(key: str, shares: Sequence[float], seed: int) -> int:
    """The last part first: another share of validation leaves the test images alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
    rest = int(digest[:13], 16) / 16**13  # 0 to below 1
    for part in range(len(shares) - 1, 0, -1):
        rest -= shares[part]
        if rest < 0.0:
            return part
    return 0
