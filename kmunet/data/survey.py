"""Everything that is worth knowing of a data set before it is used: `survey`.

Where `check` stops at faults, this goes on: errors are what `prepare` would refuse,
warnings what it takes and a person should look at.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kmunet.data.alike import SIDE
from kmunet.data.groups import Conflict, Link, find_conflicts, find_links, name_groups
from kmunet.data.integrity import DARK, Examined, examine
from kmunet.data.layers import LayerCount
from kmunet.data.pairs import Source
from kmunet.data.progress import parallel_map
from kmunet.data.record import Record
from kmunet.data.rows import ScratchRows
from kmunet.data.statistics import fingerprint
from kmunet.errors import DataError, MaskValueError, SizeError, UnreadableError

_ODD = 3.0  # times larger, smaller or longer than the middle of the set
_TINY = 32  # pixels
_IN_FILE = np.zeros((0, 0), np.uint8)  # not held in memory for all images


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was noticed, and where."""

    kind: str
    message: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What was found; rows of links and conflicts are those of `examined`.

    Their thumbnails and masks (N, SIDE, SIDE) are in files without a name.
    """

    examined: tuple[Examined, ...]
    pairs: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    links: tuple[Link, ...]
    conflicts: tuple[Conflict, ...]
    groups: tuple[str | None, ...]
    thumbnails: ScratchRows
    masks: ScratchRows

    @property
    def records(self) -> list[Record]:
        """Of all pairs that could be read."""
        return [item.record for item in self.examined]


def survey(source: Source, scratch: Path) -> Survey:
    """Read every pair once. Raises nothing for faults of single files.

    `scratch`: a folder with room for 53 KB a pair while this runs.
    """
    shape = (len(source.matched), SIDE, SIDE)
    thumbnails, masks = (ScratchRows(scratch, shape, np.uint8) for _ in range(2))
    errors = [Finding("unpaired", text) for text in source.problems]
    found: list[Examined] = []
    known: list[str | None] = []
    splits: list[str | None] = []
    layers = LayerCount(source.classes)
    outcomes = parallel_map(examine, source.matched, "reading pairs")
    for pair, outcome in zip(source.matched, outcomes, strict=True):
        if isinstance(outcome, Examined):
            thumbnails[len(found)], masks[len(found)] = outcome.thumbnail, outcome.mask
            found.append(replace(outcome, thumbnail=_IN_FILE, mask=_IN_FILE))
            known.append(pair.group)
            splits.append(pair.split)
            layers.add(pair.id, outcome.layers)
        else:
            errors.append(Finding(_kind(outcome), str(outcome), (pair.id,)))
    errors += [Finding("covered class", str(fault)) for fault in layers.faults()]
    records = [item.record for item in found]
    thumbnails.cut(len(found))
    masks.cut(len(found))
    links = find_links(records, thumbnails, scratch)
    conflicts = find_conflicts(records, links, masks)
    warnings = [Finding("incomplete", note) for note in source.notes]
    warnings += [Finding("covered class", *item) for item in layers.covered()]
    warnings += [Finding("absent class", text) for text in layers.absent()]
    warnings += _observations(found) + _alike(records, links, conflicts)
    groups = name_groups(records, links, known)
    leaks = _leaks(records, groups, splits)
    # A challenge's own leak is a fact to know, one in a manifest is a fault to mend.
    (errors if source.splits == "declared" else warnings).extend(leaks)
    return Survey(
        examined=tuple(found),
        pairs=len(source.matched),
        errors=tuple(errors),
        warnings=tuple(warnings),
        links=tuple(links),
        conflicts=tuple(conflicts),
        groups=tuple(groups),
        thumbnails=thumbnails,
        masks=masks,
    )


def as_tables(source: Source, result: Survey) -> dict[str, Any]:
    """The survey as report.json holds it."""
    ids = [record.id for record in result.records]
    apart = {(c.link.a, c.link.b) for c in result.conflicts}
    return {
        "source": source.kind,
        "about": asdict(source.about) if source.about else None,
        "classes": list(source.classes),
        "pairs": result.pairs,
        "errors": [asdict(item) for item in result.errors],
        "warnings": [
            {**asdict(item), "count": len(item.ids)} for item in result.warnings
        ],
        "duplicates": [
            {"a": ids[link.a], "b": ids[link.b], "kind": link.kind,
             "score": link.score, "conflict": (link.a, link.b) in apart}
            for link in result.links
        ],
        "conflicts": [
            {"a": ids[c.link.a], "b": ids[c.link.b], "kind": c.link.kind,
             "classes_differ": c.classes, "mask_overlap": c.overlap}
            for c in result.conflicts
        ],
        "groups": _groups(ids, result.groups),
        "fingerprint": fingerprint(
            result.records, [item.statistics for item in result.examined]
        ),
        "images": _images(source, result),
    }  # fmt: skip


def _kind(error: DataError) -> str:
    names: list[tuple[type[DataError], str]] = [
        (UnreadableError, "unreadable"),
        (SizeError, "size mismatch"),
        (MaskValueError, "mask values"),
    ]
    return next((name for kind, name in names if isinstance(error, kind)), "pair")


def _observations(found: Sequence[Examined]) -> list[Finding]:
    """Kinds of warning on single images; ids in order."""
    if not found:
        return []
    odd = _odd_size([item.record for item in found])
    tests: list[tuple[str, str, Callable[[Examined], bool]]] = [
        ("empty mask", "no lesion", lambda e: e.record.foreground == 0.0),
        ("full mask", "the whole image", lambda e: e.record.foreground == 1.0),
        ("grey edges", "mask values between its two, cut at half of the full value",
         lambda e: e.record.grey_edges),
        ("dark image", f"brightest value below {DARK} of 255",
         lambda e: e.record.peak < DARK),
        ("flat image", "one value everywhere",
         lambda e: e.statistics.low == e.statistics.high),
        ("odd size", "a size unlike the others", lambda e: odd(e.record)),
        ("other channels", "grey among colour images, or the reverse",
         _minority(found)),
    ]  # fmt: skip
    findings = []
    for kind, message, test in tests:
        ids = tuple(item.record.id for item in found if test(item))
        if ids:
            findings.append(Finding(kind, message, ids))
    return findings


def _odd_size(records: Sequence[Record]) -> Callable[[Record], bool]:
    """Not the one size that most share; else far from the middle of area or shape."""
    sizes = Counter((record.height, record.width) for record in records)
    common, count = sizes.most_common(1)[0]
    if count > len(records) / 2:
        return lambda record: (record.height, record.width) != common
    area = median(record.height * record.width for record in records)
    shape = median(record.width / record.height for record in records)

    def odd(record: Record) -> bool:
        larger = record.height * record.width / area
        longer = record.width / record.height / shape
        side = min(record.height, record.width)
        far = any(not 1 / _ODD**power < value < _ODD**power
                  for value, power in ((larger, 2), (longer, 1)))  # fmt: skip
        return far or side < _TINY

    return odd


def _minority(found: Sequence[Examined]) -> Callable[[Examined], bool]:
    colour = 2 * sum(item.statistics.colour for item in found) > len(found)
    return lambda item: item.statistics.colour != colour


def _alike(
    records: Sequence[Record], links: Sequence[Link], conflicts: Sequence[Conflict]
) -> list[Finding]:
    findings = []
    rows = sorted({row for link in links for row in (link.a, link.b)})
    if rows:
        counts = Counter(link.kind for link in links)
        text = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
        ids = tuple(records[row].id for row in rows)
        findings.append(Finding("duplicates", f"pairs: {text}", ids))
    if conflicts:
        text = "the same view with other masks or classes: " + ", ".join(
            f"{records[c.link.a].id} and {records[c.link.b].id}" for c in conflicts[:5]
        )
        both = [row for c in conflicts for row in (c.link.a, c.link.b)]
        ids = tuple(dict.fromkeys(records[row].id for row in both))
        findings.append(Finding("conflicts", text, ids))
    return findings


def _leaks(
    records: Sequence[Record],
    groups: Sequence[str | None],
    splits: Sequence[str | None],
) -> list[Finding]:
    """Groups that the split which came with the data has on two sides."""
    members: dict[str, dict[str, str]] = {}
    for record, group, split in zip(records, groups, splits, strict=True):
        if group is not None and split is not None:
            members.setdefault(group, {})[record.id] = split
    broken = {k: own for k, own in members.items() if len(set(own.values())) > 1}
    if not broken:
        return []
    first, other = _two_sides(next(iter(broken.values())))
    text = f"groups that the given split has on two sides: {len(broken)}, such as "
    ids = tuple(name for own in broken.values() for name in own)
    return [Finding("leak", f"{text}{first} and {other}", ids)]


def _two_sides(own: dict[str, str]) -> tuple[str, str]:
    (first, split), *_ = own.items()
    other = next(name for name, place in own.items() if place != split)
    return f"{first} ({split})", f"{other} ({own[other]})"


def _groups(ids: Sequence[str], names: Sequence[str | None]) -> list[dict[str, Any]]:
    members: dict[str, list[str]] = {}
    for own, name in zip(ids, names, strict=True):
        if name is not None:
            members.setdefault(name, []).append(own)
    return [{"name": name, "ids": rows} for name, rows in members.items()]


def _images(source: Source, result: Survey) -> list[dict[str, Any]]:
    by_id = {pair.id: pair for pair in source.matched}
    rows = []
    for item, group in zip(result.examined, result.groups, strict=True):
        record, pair = item.record, by_id[item.record.id]
        rows.append(
            {
                "id": record.id,
                "image": pair.image,
                "masks": list(pair.masks),
                "category": record.category,
                "split": pair.split,
                "group": group,
                "width": record.width,
                "height": record.height,
                "foreground": round(record.foreground, 6),
                **asdict(item.statistics),
                "sha256": record.sha256,
            }
        )
    return rows
