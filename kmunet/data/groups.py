"""Which records belong together: duplicates of any kind and known groups, clustered.

A link joins two records for one reason; clusters are what links and equal group
labels connect (union-find). No cluster may lie on two sides of a split.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kmunet.data.alike import Thumbnails, find_alike
from kmunet.data.record import Record

Kind = Literal["exact", "hash", "near", "id"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HASH_BITS = 6  # of 64: up to here a perceptual hash alone would have shown the pair
COMPARABLE = 0.45  # agreement from which masks must overlap
WORDS = {"exact": "the same pixels", "hash": "the same perceptual hash",
         "near": "the same view", "id": "the same ISIC number"}  # fmt: skip
_ISIC = re.compile(r"ISIC_(\d{7})", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """Records a < b (rows) belong together. `score`: 1 for the same pixels."""

    a: int
    b: int
    kind: Kind
    score: float
    shift: tuple[int, int] = (0, 0)  # of b upon a, at the thumbnails' size


def find_links(
    records: Sequence[Record], thumbnails: Thumbnails, scratch: Path | None = None
) -> list[Link]:
    """Exact, perceptual and near-duplicates, and ISIC images shared between years.

    thumbnails: uint8 (N, SIDE, SIDE). A pair is listed once, by its strongest reason;
    n copies of the same pixels by n - 1 pairs. `scratch`: see `find_alike`.
    """
    links: dict[tuple[int, int], Link] = {}
    same: list[tuple[Kind, list[list[int]]]] = [
        ("exact", same_pixels(records)),
        ("id", _numbers(records)),
    ]
    for kind, sets in same:
        for first, *others in sets:
            for row in others:
                links.setdefault((first, row), Link(first, row, kind, 1.0))
    found = find_alike(thumbnails, scratch)
    rows = sorted({row for alike in found for row in (alike.a, alike.b)})
    own = perceptual_hashes(thumbnails[row] for row in rows)
    hashes = dict(zip(rows, own.tolist(), strict=True))
    for alike in found:
        if records[alike.a].image_sha256 == records[alike.b].image_sha256:
            continue
        distance = (hashes[alike.a] ^ hashes[alike.b]).bit_count()
        word: Kind = "hash" if distance <= HASH_BITS else "near"
        score = round(alike.agreement, 3)
        links[alike.a, alike.b] = Link(alike.a, alike.b, word, score, alike.shift)
    return [links[key] for key in sorted(links)]


def perceptual_hashes(thumbnails: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint64]:
    """64-bit hash of the low frequencies (pHash) of each, uint64 (N,)."""
    import imagehash
    from PIL import Image

    bits = [imagehash.phash(Image.fromarray(small)).hash for small in thumbnails]
    packed = np.packbits(np.asarray(bits, bool).reshape(-1, 64), axis=1)
    return packed.view(">u8").ravel().astype(np.uint64)


def clusters(
    count: int, links: Iterable[Link], labels: Sequence[Iterable[Hashable]]
) -> list[list[int]]:
    """Rows that hang together by links or equal labels, each sorted, by first row.

    `labels`: of each row, any number. Every row is in one cluster, if alone.
    """
    parent = list(range(count))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(one: int, other: int) -> None:
        # The lowest row is the root: the answer does not depend on the order of links.
        low, high = sorted((find(one), find(other)))
        parent[high] = low

    for link in links:
        join(link.a, link.b)
    first: dict[Hashable, int] = {}
    for row, own in enumerate(labels):
        for label in own:
            join(first.setdefault(label, row), row)
    members: dict[int, list[int]] = defaultdict(list)
    for row in range(count):
        members[find(row)].append(row)
    return [members[root] for root in sorted(members)]


def name_groups(
    records: Sequence[Record], links: Sequence[Link], known: Sequence[str | None]
) -> list[str | None]:
    """A name for each record's cluster: its known labels, or its first id; or None.

    `known`: sequence, patient, or what a manifest says.
    """
    labels = [[label] if label is not None else [] for label in known]
    names: list[str | None] = [None] * len(records)
    for rows in clusters(len(records), links, labels):
        listed = sorted({str(known[row]) for row in rows if known[row] is not None})
        if not listed and len(rows) == 1:
            continue
        name = " + ".join(listed) or "like " + min(records[row].id for row in rows)
        for row in rows:
            names[row] = name
    return names


@dataclass(frozen=True)
class Conflict:
    """A pair that shows the same, with other masks or classes."""

    link: Link
    classes: bool
    overlap: float  # IoU of the two masks, 1 where both are empty


def find_conflicts(
    records: Sequence[Record], links: Iterable[Link], masks: Thumbnails
) -> list[Conflict]:
    """Links whose classes differ, or whose masks overlap by less than half.

    masks: uint8 (N, SIDE, SIDE) in {0, 1}. Copies pixel for pixel are in conflict as
    soon as their masks differ at all; views that only in part agree may show a lesion
    that moved, so their masks are not compared.
    """
    found = []
    for link in links:
        a, b = records[link.a], records[link.b]
        overlap = _overlap(masks[link.a], np.roll(masks[link.b], link.shift, (0, 1)))
        exact = link.kind == "exact"
        apart = overlap < 0.5 and link.score >= COMPARABLE
        if exact:
            apart = a.sha256 != b.sha256
        if apart or a.category != b.category:
            found.append(Conflict(link, a.category != b.category, round(overlap, 3)))
    return found


def _overlap(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    union = int((one | two).sum())
    return int((one & two).sum()) / union if union else 1.0


def same_pixels(records: Sequence[Record]) -> list[list[int]]:
    """Rows, ascending, of each image that is there more than once; by first row."""
    hexes = (record.image_sha256.encode() for record in records)
    digests = np.fromiter(hexes, "S64", len(records))
    order = np.argsort(digests, kind="stable")
    digests = digests[order]
    same = np.concatenate([[False], digests[1:] == digests[:-1], [False]])
    turns = np.flatnonzero(same[1:] != same[:-1]).reshape(-1, 2)  # a run: first, last
    return sorted(order[first : last + 1].tolist() for first, last in turns.tolist())


def _numbers(records: Sequence[Record]) -> list[list[int]]:
    """Rows by ISIC number: the archive's own name of an image in every challenge."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        match = _ISIC.search(record.id)
        if match:
            rows[match[1]].append(row)
    return list(rows.values())
