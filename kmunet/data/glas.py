"""Source `glas`: the Warwick-QU gland challenge, 165 H&E images, 85 / 60 / 20.

`train_1.bmp` and `train_1_anno.bmp` in one folder with Grade.csv, or U-KAN's images/
and masks/0/. Official masks hold instance ids: each gland is foreground. The group is
the patient; the official split itself has most patients on both sides.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kmunet.data.about import About, missing_images, missing_numbers
from kmunet.data.archive import Files, is_image
from kmunet.data.folder import flat_lists, has_flat_lists
from kmunet.data.joined import open_one
from kmunet.data.masks import INSTANCES
from kmunet.data.pairs import Pair, Source, mask_owner, match_pairs, stem, strangers
from kmunet.errors import SourceError, UnreadableError

ABOUT = About(
    title="GlaS",
    expected={"train": 85, "testA": 60, "testB": 20},
    licence="research only",
    citation="Sirinukunwattana et al., Gland segmentation in colon histology images: "
    "the GlaS challenge contest, Medical Image Analysis 35 (2017) 489-502, "
    "doi 10.1016/j.media.2016.08.008",
    origin="University of Warwick, Tissue Image Analytics Centre (GlaS@MICCAI'2015)",
)
WANTED = "warwick_qu_dataset_released_2016_07_08.zip, or its unpacked folder,"
_NAME = re.compile(r"(train|testA|testB)_(\d+)", re.IGNORECASE)


def open_glas(paths: Sequence[Path]) -> Source:
    """Images with official split, patient and grade. Raises SourceError."""
    files = open_one(paths, WANTED)
    try:
        images, masks = _lists(files)
        grades = _read_grades(files)
    except SourceError:
        files.close()
        raise
    found, problems = match_pairs(images, masks, files, category=None)
    problems += strangers(found, _NAME, "train_1, testA_1 or testB_1")
    pairs = []
    for pair in filter(_part, found):
        patient, grade = grades.get(pair.id.lower(), (None, None))
        pairs.append(
            replace(
                pair,
                category=grade,
                split="train" if _part(pair) == "train" else "test",
                group=f"patient {patient}" if patient else None,
                form=INSTANCES,
            )
        )
    return Source(
        "glas", files, tuple(pairs), tuple(problems), about=ABOUT,
        notes=tuple(_notes(pairs, bool(grades))), classes=("gland",),
        splits="official",
    )  # fmt: skip


def _part(pair: Pair) -> str:
    match = _NAME.fullmatch(pair.id)
    lower = match[1].lower() if match else ""
    return lower[:-1] + lower[-1].upper() if lower.startswith("test") else lower


def _notes(pairs: Sequence[Pair], graded: bool) -> list[str]:
    notes = missing_images(ABOUT, Counter(_part(pair) for pair in pairs))
    for part, last in ABOUT.expected.items():
        here = [pair for pair in pairs if _part(pair) == part]
        numbers = [int(pair.id.rsplit("_", 1)[1]) for pair in here]
        notes.append(missing_numbers(part, numbers, last))
    if not graded:
        notes.append("Grade.csv is not here: patients and grades are not known")
    return [note for note in notes if note]


def _lists(files: Files) -> tuple[list[str], list[str]]:
    if has_flat_lists(files):
        images, masks = flat_lists(files)
    else:
        names = [name for name in files.names() if is_image(name)]
        masks = [name for name in names if mask_owner(name)]
        images = [name for name in names if not mask_owner(name)]
    if not any(_NAME.fullmatch(stem(name)) for name in images):
        some = [name for name in files.names() if is_image(name)][:1] or ["no images"]
        raise SourceError(
            f"{files.label}: this is not GlaS: found {some[0]}; it holds files such as "
            "'train_1.bmp' and 'train_1_anno.bmp'"
        )
    return images, masks


def _read_grades(files: Files) -> dict[str, tuple[str, str]]:
    """Patient and grade by image id in lower case; {} without a Grade.csv."""
    tables = [
        name
        for name in files.names()
        if PurePosixPath(name).name.lower() == "grade.csv"
    ]
    if not tables:
        return {}
    try:
        text = files.read(tables[0]).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        return dict(_grade(row) for row in rows)
    except (UnreadableError, UnicodeDecodeError, csv.Error, KeyError, ValueError):
        raise SourceError(
            f"{files.label}: {tables[0]}: no table of name, patient ID and grade; "
            "take it from the download again, or remove it"
        ) from None


def _grade(row: dict[str, str]) -> tuple[str, tuple[str, str]]:
    clean = {str(k).strip().lower(): str(v).strip() for k, v in row.items()}
    # The first of one or two columns: "grade (GlaS)".
    (key, *_) = (key for key in clean if key.startswith("grade"))
    return clean["name"].lower(), (clean["patient id"], clean[key])
