"""Source `cvc`: CVC-ClinicDB, 612 colonoscopy frames of 29 sequences, 384x288.

Read are `Original/` and `Ground Truth/` (TIFF as first given out, PNG in the Kaggle
copy, which has both) and U-KAN's images/ and masks/0/. A frame's sequence is its group:
neighbours in a video look alike.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kmunet.data.about import About, missing_images, missing_numbers
from kmunet.data.archive import Files, is_image
from kmunet.data.folder import flat_lists, has_flat_lists
from kmunet.data.joined import open_one
from kmunet.data.pairs import Pair, Source, match_pairs, strangers
from kmunet.errors import SourceError

ABOUT = About(
    title="CVC-ClinicDB",
    expected={"frames": 612},
    licence="research and education only, no commercial use; images of Hospital "
    "Clinic, Barcelona, masks of the Computer Vision Center, Barcelona",
    citation="Bernal et al., WM-DOVA maps for accurate polyp highlighting in "
    "colonoscopy, Comput. Med. Imaging Graph. 43 (2015) 99-111, "
    "doi 10.1016/j.compmedimag.2015.02.007",
    origin="Computer Vision Center, Barcelona (polyp.grand-challenge.org/CVCClinicDB)",
)
WANTED = "CVC-ClinicDB.zip, or its unpacked folders 'Original' and 'Ground Truth',"
# Last frame of sequence 1, 2, ... 29, as the data set's README gives them.
LAST_FRAMES = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317,
    342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612,
)  # fmt: skip
_FRAME = re.compile(r"\D*0*([1-9]\d?|[1-5]\d\d|60\d|61[0-2])")


def sequence(frame: int) -> int:
    """The sequence, 1 to 29, of a frame, 1 to 612."""
    if not 1 <= frame <= LAST_FRAMES[-1]:
        raise ValueError(f"frame {frame}")
    return bisect_left(LAST_FRAMES, frame) + 1


def open_cvc(paths: Sequence[Path]) -> Source:
    """Frames with their sequence as group. Raises SourceError for another data set."""
    files = open_one(paths, WANTED)
    try:
        images, masks = _lists(files)
    except SourceError:
        files.close()
        raise
    found, problems = match_pairs(images, masks, files, category=None)
    problems += strangers(found, _FRAME, "1.png to 612.png")
    pairs = [
        replace(pair, group=f"sequence {sequence(frame)}")
        for pair in found
        if (frame := _frame(pair))
    ]
    numbers = [_frame(pair) for pair in pairs]
    notes = missing_images(ABOUT, {"frames": len(pairs)})
    notes += filter(None, [missing_numbers("frames", numbers, LAST_FRAMES[-1])])
    return Source(
        "cvc", files, tuple(pairs), tuple(problems), about=ABOUT, notes=tuple(notes)
    )


def _frame(pair: Pair) -> int:
    match = _FRAME.fullmatch(pair.id)
    return int(match[1]) if match else 0


def _lists(files: Files) -> tuple[list[str], list[str]]:
    """Images and masks of the one copy (PNG or TIF) that holds most, PNG first."""
    copies: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in filter(is_image, files.names()):
        path = PurePosixPath(name)
        kind = re.sub(r"[\W_]", "", path.parent.name.lower())
        if kind in ("original", "groundtruth"):
            place = 0 if kind == "original" else 1
            copies[path.parent.parent.as_posix()][place].append(name)
    if not copies and has_flat_lists(files):
        return flat_lists(files)
    if not copies:
        some = [name for name in files.names() if is_image(name)][:1] or ["no images"]
        raise SourceError(
            f"{files.label}: this is not CVC-ClinicDB: found {some[0]}; it holds "
            "'Original/1.tif' and 'Ground Truth/1.tif' (or .png)"
        )
    return max(copies.values(), key=_worth)


def _worth(copy: tuple[list[str], list[str]]) -> tuple[int, int]:
    pngs = sum(name.lower().endswith(".png") for name in copy[0])
    return min(len(copy[0]), len(copy[1])), pngs
