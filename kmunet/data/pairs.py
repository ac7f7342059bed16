"""A pair of image and masks in its files, and a source: all pairs of a data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Literal

import numpy as np

from kmunet.data.about import About
from kmunet.data.archive import Files
from kmunet.data.decode import Pixels, decode_image
from kmunet.data.layers import Layers, Stack
from kmunet.data.masks import BINARY, MaskForm, decode_mask
from kmunet.errors import PairError, SizeError

_MASK_NAME = re.compile(
    r"(?P<stem>.+?)(_mask(_\d+)?|_segmentation|_anno)", re.IGNORECASE
)


@dataclass(frozen=True)
class Decoded:
    """A pair's pixels, and what its masks were before they became one."""

    image: Pixels  # (H, W, 3) RGB
    mask: Pixels  # (H, W): 0, or the class from 1
    grey: bool  # whether a mask had grey values between its two
    layers: Layers


@dataclass(frozen=True)
class Pair:
    """One image and its masks, by name in `files`; several masks are joined.

    `split`: where the data set's makers (or a manifest) put it. `group`: pairs of one
    group (video sequence, patient) belong together. `layers`: the class of each mask,
    where each class has masks of its own; later masks lie over earlier ones.
    """

    id: str
    image: str
    masks: tuple[str, ...]
    category: str | None
    files: Files = field(repr=False, compare=False)
    split: str | None = None
    group: str | None = None
    form: MaskForm = BINARY
    layers: tuple[int, ...] = ()

    def read(self) -> tuple[Pixels, Pixels]:
        """Image uint8 (H, W, 3) RGB, mask uint8 (H, W): 0, or the class from 1.

        With one class that is {0, 1}. Raises UnreadableError or PairError naming the
        file at fault.
        """
        pair = self.read_checked()
        return pair.image, pair.mask

    def read_image(self) -> Pixels:
        """The image alone. Raises UnreadableError."""
        return decode_image(self.files.read(self.image), self.image)

    def read_checked(self) -> Decoded:
        """As `read`, with what is to be known of the masks."""
        return self.decode(self.files.read(self.image))

    def decode(self, data: bytes) -> Decoded:
        """As `read_checked`, where `data` of the image's file was read already."""
        image = decode_image(data, self.image)
        height, width = image.shape[:2]
        stack = Stack(height, width)
        any_grey = False
        for place, name in enumerate(self.masks):
            part, grey = decode_mask(self.files.read(name), name, self.form)
            if part.shape != stack.mask.shape:
                raise SizeError(
                    f"{name}: {part.shape[1]}x{part.shape[0]} pixels, but its image "
                    f"{self.image} has {width}x{height}; they must be equal"
                )
            value = self.layers[place] if self.layers else 1
            stack.lay(part * np.uint8(value))
            any_grey |= grey
        return Decoded(image, stack.mask, any_grey, stack.layers())


@dataclass(frozen=True)
class Source:
    """The pairs of one data set, and what kept other files from making pairs.

    A context manager: it holds an archive open.
    """

    kind: str
    files: Files
    matched: tuple[Pair, ...]
    problems: tuple[str, ...] = ()
    about: About | None = None
    notes: tuple[str, ...] = ()  # what is missing of the published set
    classes: tuple[str, ...] = ("foreground",)
    # "official": the challenge's split; "declared": the user's own in a manifest
    splits: Literal["", "official", "declared"] = ""

    def pairs(self) -> list[Pair]:
        """All pairs sorted by id. Raises PairError where a file has no partner."""
        if self.problems:
            raise PairError(f"{self.files.label}: " + "; ".join(self.problems))
        return list(self.matched)

    def close(self) -> None:
        self.files.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def stem(name: str) -> str:
    """File name without folders and suffix."""
    return PurePosixPath(name).stem


def mask_owner(name: str) -> str | None:
    """Stem of the image that `STEM_mask.png`, `STEM_mask_1.png` belongs to, if any."""
    match = _MASK_NAME.fullmatch(stem(name))
    return match["stem"] if match else None


def strangers(pairs: Sequence[Pair], known: re.Pattern[str], form: str) -> list[str]:
    """A problem for each pair whose id is no name of its data set."""
    return [
        f"{pair.image}: no name of this data set, such as {form}; remove it, or read "
        "this as kind 'folder'"
        for pair in pairs
        if not known.fullmatch(pair.id)
    ]


def match_pairs(
    images: Sequence[str], masks: Sequence[str], files: Files, category: str | None
) -> tuple[list[Pair], list[str]]:
    """Pair names of images and masks by their stems; also the problems, in words."""
    by_stem: dict[str, str] = {}
    twice = []
    for name in sorted(images):
        if stem(name) in by_stem:
            twice.append(f"{by_stem[stem(name)]} and {name}")
        by_stem.setdefault(stem(name), name)
    owned: dict[str, list[str]] = {key: [] for key in by_stem}
    orphans = []
    for name in sorted(masks):
        owner = stem(name) if stem(name) in owned else mask_owner(name)
        if owner in owned:
            owned[owner].append(name)
        else:
            orphans.append(name)
    bare = [by_stem[key] for key, found in owned.items() if not found]
    pairs = [
        Pair(key, by_stem[key], tuple(found), category, files)
        for key, found in sorted(owned.items())
        if found
    ]
    return pairs, _describe(bare, orphans, twice)


def _describe(bare: list[str], orphans: list[str], twice: list[str]) -> list[str]:
    problems = []
    if bare:
        problems.append(f"{_count(bare, 'image')} without a mask: {_first(bare)}")
    if orphans:
        problems.append(
            f"{_count(orphans, 'mask')} without an image: {_first(orphans)}"
        )
    problems += [f"two images of one name: {both}" for both in twice]
    return problems


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''}"


def _first(names: list[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
