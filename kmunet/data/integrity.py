"""What is known and what is wrong of decoded pairs; all problems in one error."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kmunet.data.alike import SIDE, thumbnail
from kmunet.data.decode import Pixels
from kmunet.data.groups import Link, same_pixels
from kmunet.data.layers import LayerCount, Layers
from kmunet.data.pairs import Decoded, Pair, Source
from kmunet.data.progress import parallel_map
from kmunet.data.record import Record
from kmunet.data.resize import resize_mask
from kmunet.data.statistics import Statistics, measure
from kmunet.errors import DataError, PairError, UnreadableError

MOST_LISTED = 10
DARK = 32


@dataclass(frozen=True)
class Examined:
    """What one look at the pixels of a pair leaves: small enough to keep for all."""

    record: Record
    thumbnail: Pixels  # (SIDE, SIDE) grey
    mask: Pixels  # (SIDE, SIDE) in {0, 1}: any class
    statistics: Statistics
    layers: Layers


def check(source: Source) -> list[Record]:
    """Records of all pairs, in the order of `source.matched`, not yet split.

    Raises PairError (or UnreadableError where that is all) listing the first ten
    problems and how many there are.
    """
    found: list[Record] = []
    faults: list[DataError] = [PairError(text) for text in source.problems]
    counted = LayerCount(source.classes)
    for outcome in parallel_map(examine, source.matched, "checking pairs"):
        if isinstance(outcome, Examined):
            found.append(outcome.record)
            counted.add(outcome.record.id, outcome.layers)
        else:
            faults.append(outcome)
    faults += counted.faults()
    if faults:
        raise summary(source, faults)
    return found


def warnings(records: Sequence[Record]) -> list[str]:
    """What is allowed but worth knowing: what, how many, the first three ids."""
    empty = [r.id for r in records if r.foreground == 0.0]
    full = [r.id for r in records if r.foreground == 1.0]
    grey = [r.id for r in records if r.grey_edges]
    dark = [r.id for r in records if r.peak < DARK]
    notes = [
        (empty, "empty masks (no lesion)"),
        (full, "masks that cover the whole image"),
        (grey, "masks with grey edges, cut at half of the full value"),
        (
            dark,
            f"almost black images (brightest value below {DARK} of 255; "
            "10 or 12 bits in a file of 16 must be scaled up)",
        ),
    ]
    found = [f"{text}: {len(ids)}, {_few(ids)}" for ids, text in notes if ids]
    return found + _duplicates(records)


def of_classes(counted: LayerCount) -> list[str]:
    """A line for each class that others cover in some images, or that is nowhere."""
    found = [f"{text}: {len(ids)}, {_few(ids)}" for text, ids in counted.covered()]
    return found + counted.absent()


def alike(records: Sequence[Record], links: Sequence[Link]) -> list[str]:
    """A line on near-duplicates, if there are any."""
    near = [link for link in links if link.kind != "exact"]
    rows = {row for link in near for row in (link.a, link.b)}
    pairs = [f"{records[link.a].id} ~ {records[link.b].id}" for link in near]
    text = f"pairs that show one view, kept in one split: {len(near)}, of"
    return [f"{text} {len(rows)} images, {_few(pairs)}"] if near else []


def examine(pair: Pair) -> Examined | DataError:
    """Decode a pair; its fault is returned and not raised, to go on with the others."""
    try:
        read = pair.read_checked()
    except DataError as error:
        return error
    small = resize_mask(np.minimum(read.mask, 1), SIDE, SIDE)
    return Examined(
        describe(pair, read),
        thumbnail(read.image),
        small,
        measure(read.image),
        read.layers,
    )


def describe(pair: Pair, read: Decoded) -> Record:
    """The record of a decoded pair, not yet split."""
    image, mask = read.image, read.mask
    height, width = mask.shape
    return Record(
        id=pair.id,
        category=pair.category,
        height=height,
        width=width,
        foreground=int(np.count_nonzero(mask)) / mask.size,
        image_sha256=_digest(image),
        sha256=_digest(image, mask),
        grey_edges=read.grey,
        peak=int(image.max()),
    )


def _digest(*arrays: Pixels) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def summary(source: Source, faults: Sequence[DataError]) -> DataError:
    """One error for all: the first ten, and how many more there are."""
    lines = [str(fault) for fault in faults[:MOST_LISTED]]
    if len(faults) > MOST_LISTED:
        lines.append(f"and {len(faults) - MOST_LISTED} more")
    unreadable = all(isinstance(fault, UnreadableError) for fault in faults)
    kind = UnreadableError if unreadable else PairError
    if len(faults) == 1:
        return kind(f"{source.files.label}: {lines[0]}")
    head = f"{source.files.label}: {len(faults)} problems"
    return kind("\n  ".join([head, *lines]))


def _duplicates(records: Sequence[Record]) -> list[str]:
    sets = same_pixels(records)
    groups = [" = ".join(records[row].id for row in rows) for rows in sets]
    if not groups:
        return []
    text = "the same pixels under several ids, kept in one split"
    return [f"{text}: {len(groups)}, {_few(groups)}"]


def _few(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
