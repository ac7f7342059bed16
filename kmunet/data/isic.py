"""Sources `isic2017` (part 1) and `isic2018` (task 1): dermoscopy with lesion masks.

Each comes as up to six archives, images and masks of train, validation and test; any
complete pairs of these are read. Also read: images and `*_segmentation.png` in folders
of other names, and U-KAN's images/ and masks/0/, which say nothing of the split.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kmunet.data.about import About, missing_images
from kmunet.data.archive import Files, is_image
from kmunet.data.folder import flat_lists, has_flat_lists
from kmunet.data.joined import open_parts
from kmunet.data.pairs import Pair, Source, mask_owner, match_pairs, stem, strangers
from kmunet.errors import SourceError


@dataclass(frozen=True)
class _Year:
    about: About
    image_part: str  # archive names; {} is Training, Validation or Test
    mask_part: str
    test: str = "Test"

    def archive(self, role: str, part: str) -> str:
        text = self.image_part if role == "images" else self.mask_part
        return text.format(self.test if part == "test" else _PARTS[part]) + ".zip"


_PARTS = {"train": "Training", "validation": "Validation", "test": "Test"}
_ORIGIN = "International Skin Imaging Collaboration (challenge.isic-archive.com/data)"
YEARS = {
    "isic2017": _Year(
        About(
            title="ISIC 2017 part 1",
            expected={"train": 2000, "validation": 150, "test": 600},
            licence="CC0 1.0",
            citation="Codella et al., Skin lesion analysis toward melanoma detection: "
            "a challenge at ISBI 2017, doi 10.1109/ISBI.2018.8363547",
            origin=_ORIGIN,
        ),
        "ISIC-2017_{}_Data",
        "ISIC-2017_{}_Part1_GroundTruth",
        "Test_v2",
    ),
    "isic2018": _Year(
        About(
            title="ISIC 2018 task 1",
            expected={"train": 2594, "validation": 100, "test": 1000},
            licence="CC BY-NC 4.0",
            citation="Codella et al., Skin lesion analysis toward melanoma detection "
            "2018, arXiv 1902.03368; Tschandl et al., The HAM10000 dataset, Sci. Data "
            "5 (2018) 180161, doi 10.1038/sdata.2018.161",
            origin=_ORIGIN,
        ),
        "ISIC2018_Task1-2_{}_Input",
        "ISIC2018_Task1_{}_GroundTruth",
    ),
}
# year; part; what it holds
_ROLE = re.compile(
    r"ISIC[-_]?(2017|2018)[-_](?:Task(?:1-2|1_2|1)[-_])?(Training|Validation|Test)"
    r"(?:[-_]v2)?[-_](Data|Input|(?:Part1[-_])?GroundTruth)",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"ISIC_\d{7}(_downsampled)?", re.IGNORECASE)
Lists = dict[str, dict[str, list[str]]]  # part -> "images" or "masks" -> names


def open_isic(kind: str, paths: Sequence[Path]) -> Source:
    """Pairs of all parts that are there. Raises SourceError naming what is missing."""
    year = YEARS[kind]
    wanted = " and ".join(year.archive(r, "train") for r in ("images", "masks"))
    files = open_parts(paths, f"{wanted} (and those of validation and test)")
    try:
        lists = _lists(files, kind)
        _require_both(files, lists, year)
    except SourceError:
        files.close()
        raise
    pairs: list[Pair] = []
    problems: list[str] = []
    for part, roles in lists.items():
        found, wrong = match_pairs(roles["images"], roles["masks"], files, None)
        pairs += [replace(pair, split=part or None) for pair in found]
        problems += wrong
    problems += strangers(pairs, _IMAGE, "ISIC_0000000")
    twice = [name for name, n in Counter(p.id for p in pairs).items() if n > 1]
    problems += [f"{name}: in several parts; keep one copy" for name in sorted(twice)]
    unique = {pair.id: pair for pair in pairs}
    return Source(
        kind, files, tuple(unique[name] for name in sorted(unique)), tuple(problems),
        about=year.about, notes=tuple(_notes(pairs, year)), classes=("lesion",),
        splits="official" if any(pair.split for pair in pairs) else "",
    )  # fmt: skip


def _notes(pairs: Sequence[Pair], year: _Year) -> list[str]:
    counts = Counter(pair.split or "" for pair in pairs)
    if counts[""]:
        return [
            f"{year.about.title}: {len(pairs)} images in folders whose names do not "
            "say train, validation or test: the official split is not known"
        ]
    return missing_images(year.about, counts)


def _lists(files: Files, kind: str) -> Lists:
    lists: Lists = defaultdict(lambda: {"images": [], "masks": []})
    loose: list[str] = []
    others = set()
    for name in filter(is_image, files.names()):
        found = _ROLE.findall("/".join(name.split("/")[:-1]))
        if not found:
            loose.append(name)
            continue
        year, part, holds = found[-1]
        if not kind.endswith(year):
            others.add(year)
            continue
        role = "images" if holds.lower() in ("data", "input") else "masks"
        if not stem(name).lower().endswith("_superpixels"):
            key = next(k for k, v in _PARTS.items() if v.lower() == part.lower())
            lists[key][role].append(name)
    if not lists and others:
        raise SourceError(
            f"{files.label}: this is ISIC {others.pop()}, not {YEARS[kind].about.title}"
        )
    return dict(sorted(lists.items())) or _without_parts(files, loose, kind)


def _without_parts(files: Files, names: list[str], kind: str) -> Lists:
    """Folders of other names: told apart by the names of the files."""
    if has_flat_lists(files):
        images, masks = flat_lists(files)
    else:
        names = [n for n in names if not stem(n).lower().endswith("_superpixels")]
        images = [name for name in names if not mask_owner(name)]
        masks = [name for name in names if mask_owner(name)]
    if not any(_IMAGE.fullmatch(stem(name)) for name in images):
        some = names[:1] or ["no images"]
        raise SourceError(
            f"{files.label}: this is not {YEARS[kind].about.title}: found {some[0]}; "
            "it holds files such as 'ISIC_0000000.jpg' and "
            "'ISIC_0000000_segmentation.png'"
        )
    return {"": {"images": images, "masks": masks}}


def _require_both(files: Files, lists: Lists, year: _Year) -> None:
    for part, roles in lists.items():
        for role, other in (("images", "masks"), ("masks", "images")):
            if roles[role] and not roles[other]:
                needed = year.archive(other, part) if part else f"its {other}"
                raise SourceError(
                    f"{files.label}: {len(roles[role])} {part} {role}".rstrip()
                    + f", but none of their {other}: add {needed}"
                )
