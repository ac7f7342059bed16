"""Source `busi`: breast ultrasound images, one folder a class, masks beside images.

780 images, 437 benign, 210 malignant, 133 normal with empty masks; 17 images have two
or three masks. Also read: images/ and masks/0/ of U-KAN, where names hold the class.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kmunet.data.about import About, missing_images, missing_numbers
from kmunet.data.archive import Files, is_image
from kmunet.data.folder import flat_lists, has_flat_lists
from kmunet.data.joined import open_one
from kmunet.data.pairs import Pair, Source, mask_owner, match_pairs
from kmunet.errors import ConfigError, SourceError

CLASSES = ("benign", "malignant", "normal")
WANTED = "Dataset_BUSI.zip, or its unpacked folders benign/, malignant/ and normal/,"
FORM = "files such as 'benign/benign (1).png' and 'benign/benign (1)_mask.png'"
ABOUT = About(
    title="BUSI",
    expected={"benign": 437, "malignant": 210, "normal": 133},
    licence="unsettled: none is stated by its makers, CC0 1.0 by one mirror",
    citation="Al-Dhabyani et al., Dataset of breast ultrasound images, "
    "Data in Brief 28 (2020) 104863, doi 10.1016/j.dib.2019.104863",
    origin="Cairo University (scholar.cu.edu.eg, A. Fahmy); copies on Kaggle",
)
# One view under two names, seen by eye; the first is a copy pixel for pixel, the others
# are too far shifted or cropped for kmunet/data/alike.py.
KNOWN_PAIRS = (
    ("benign (433)", "malignant (145)"),
    ("malignant (11)", "malignant (113)"),
    ("malignant (139)", "malignant (207)"),
    ("normal (9)", "normal (10)"),
)
Lists = tuple[list[str], list[str]]  # images, masks
_NAME = re.compile(  # also benign_(433), Benign-433
    r"(benign|malignant|normal)[\W_]*(\d+)\)?", re.IGNORECASE
)


def open_busi(paths: Sequence[Path], classes: Sequence[str] | None = None) -> Source:
    """Pairs of the chosen classes (None: all that are there).

    Raises SourceError where this is not BUSI, ConfigError for an unknown class.
    """
    for name in classes or ():
        if name not in CLASSES:
            raise ConfigError(
                f"sources: classes: '{name}' is no class of BUSI; "
                f"choose of {', '.join(CLASSES)}"
            )
    files = open_one(paths, WANTED)
    try:
        folders = _folders(files, classes)
    except SourceError:
        files.close()
        raise
    pairs: list[Pair] = []
    problems: list[str] = []
    for category, (images, masks) in folders.items():
        found, wrong = match_pairs(images, masks, files, category)
        pairs += found
        problems += wrong
    known = {name: f"view of {both[0]}" for both in KNOWN_PAIRS for name in both}
    pairs = [replace(pair, group=known.get(_published(pair.id))) for pair in pairs]
    pairs.sort(key=lambda pair: pair.id)
    notes = _notes(pairs, classes or CLASSES)
    return Source(
        "busi", files, tuple(pairs), tuple(problems), about=ABOUT, notes=tuple(notes)
    )


def _published(name: str) -> str:
    """The name as it was given out: its class and number say which image it is."""
    match = _NAME.fullmatch(name)
    return f"{match[1].lower()} ({int(match[2])})" if match else name


def _notes(pairs: Sequence[Pair], classes: Sequence[str]) -> list[str]:
    counts = Counter(pair.category or "" for pair in pairs)
    found = {name: counts[name] for name in classes}
    notes = missing_images(ABOUT, {**ABOUT.expected, **found})
    for name in sorted(classes):
        matches = [_NAME.fullmatch(p.id) for p in pairs if p.category == name]
        numbers = [int(match[2]) for match in matches if match]
        notes.append(missing_numbers(name, numbers, ABOUT.expected[name]))
    return [note for note in notes if note]


def _folders(files: Files, classes: Sequence[str] | None) -> dict[str, Lists]:
    """Images and masks by class. Raises SourceError where a class is missing."""
    found = _flat(files) if has_flat_lists(files) else _nested(files)
    if not found:
        _refuse(files)
    missing = [name for name in classes or () if name not in found]
    if missing:
        raise SourceError(
            f"{files.label}: no images in {missing[0]}/; found only "
            f"{', '.join(sorted(found))}: complete the download or drop the class "
            "from 'classes' in params.yaml"
        )
    return {name: found[name] for name in sorted(classes or found)}


def _nested(files: Files) -> dict[str, Lists]:
    """benign/, malignant/ and normal/, each once, masks beside images."""
    homes: dict[str, dict[str, list[str]]] = {}
    for name in filter(is_image, files.names()):
        parent = PurePosixPath(name).parent
        if parent.name.lower() in CLASSES:
            home = homes.setdefault(parent.name.lower(), {})
            home.setdefault(parent.as_posix(), []).append(name)
    found: dict[str, Lists] = {}
    for category, places in homes.items():
        if len(places) > 1:
            raise SourceError(
                f"{files.label}: class {category} lies in several folders "
                f"({', '.join(sorted(places))}); keep one"
            )
        (names,) = places.values()
        found[category] = (
            [name for name in names if not mask_owner(name)],
            [name for name in names if mask_owner(name)],
        )
    return found


def _flat(files: Files) -> dict[str, Lists]:
    """images/ and masks/0/: the class is the first word of the name."""
    found: dict[str, Lists] = {}
    for place, names in enumerate(flat_lists(files)):
        for name in names:
            match = _NAME.match(PurePosixPath(name).name)
            lists = found.setdefault(match[1].lower() if match else "", ([], []))
            lists[place].append(name)
    other = found.pop("", ([], []))
    if found and other[0] + other[1]:
        raise SourceError(
            f"{files.label}: {(other[0] + other[1])[0]}: the name says no class; "
            "remove it, or read this as kind 'folder'"
        )
    return found


def _refuse(files: Files) -> None:
    names = [name for name in files.names() if is_image(name)] or files.names()
    folders = sorted({PurePosixPath(name).parent.as_posix() + "/" for name in names})
    raise SourceError(
        f"{files.label}: this is not BUSI: found {', '.join(folders[:4])} with "
        f"{PurePosixPath(names[0]).name if names else 'no files'}; BUSI holds {FORM}"
    )
