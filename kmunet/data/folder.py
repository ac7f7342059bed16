"""Source `folder`: images/ and masks/ with the same stems, in a folder or one zip.

Masks may lie in masks/0/ (the layout of U-KAN and KM-UNet) and may be named
STEM, STEM_mask, STEM_mask_1 or STEM_segmentation; several of one image are OR-ed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kmunet.data.archive import IMAGE_SUFFIXES, Files, is_image, is_unread
from kmunet.data.joined import open_one
from kmunet.data.masks import class_form
from kmunet.data.pairs import Pair, Source, match_pairs
from kmunet.errors import SourceError

WANTED = "images/ and masks/ with the same file names (or one zip that holds these)"


def open_folder(
    paths: Sequence[Path],
    classes: tuple[str, ...] = (),
    values: tuple[int | str, ...] = (),
) -> Source:
    """Pairs below one path. Raises SourceError where the two folders are not found.

    `classes`: what the masks hold, by value 1, 2, ... or as `values` says (numbers, or
    colours as #rrggbb); or by the folders masks/0/, masks/1/, ..., one a class.
    """
    form = class_form(classes, values)
    files = open_one(paths, WANTED)
    try:
        images, masks = flat_lists(files, len(classes))
        unread = _unread(files)
    except SourceError:
        files.close()
        raise
    layers = {PurePosixPath(name).parent.name for name in masks} if classes else set()
    by_folder = len(classes) > 1 and layers == {str(n) for n in range(len(classes))}
    found, problems = match_pairs(images, masks, files, category=None)
    pairs = [
        replace(pair, layers=_layers(pair)) if by_folder else replace(pair, form=form)
        for pair in found
    ]
    problems += unread
    named = classes or ("foreground",)
    return Source("folder", files, tuple(pairs), tuple(problems), classes=named)


def _layers(pair: Pair) -> tuple[int, ...]:
    return tuple(int(PurePosixPath(name).parent.name) + 1 for name in pair.masks)


def has_flat_lists(files: Files) -> bool:
    """Whether images/ and masks/ lie somewhere in it."""
    parts = {p for n in files.names() for p in PurePosixPath(n).parts[:-1]}
    return {"images", "masks"} <= parts


def flat_lists(files: Files, classes: int = 1) -> tuple[list[str], list[str]]:
    """Names in images/, and in masks/ or masks/0/ (to masks/K-1/ for K classes)."""
    root = _root(files)
    images = _below(files, root / "images")
    masks = _below(files, root / "masks")
    folders = sorted({PurePosixPath(n).parts[len(root.parts) + 1] for n in masks[1]})
    numbered = [str(n) for n in range(max(1, classes))]
    if folders and folders in (["0"], sorted(numbered)) and not masks[0]:
        masks = (masks[1], [])
    elif folders:
        raise SourceError(
            f"{files.label}: masks/ holds folders ({', '.join(folders[:5])}); read is "
            "one class from masks/ itself or masks/0/, or 'classes' from masks/0/, "
            "masks/1/, ..., one folder each"
        )
    if images[1]:
        raise SourceError(
            f"{files.label}: {images[1][0]}: folders inside images/ are "
            "not read; move the files into images/ itself"
        )
    if not images[0] and not masks[0]:
        raise SourceError(f"{files.label}: no images in images/; expected {WANTED}")
    return images[0], masks[0]


def _unread(files: Files) -> list[str]:
    """A problem where files of other types lie among the images or the masks."""
    root = _root(files)
    homes = (root / "images", root / "masks")
    names = [
        name
        for name in filter(is_unread, files.names())
        if any(home in PurePosixPath(name).parents for home in homes)
    ]
    return [_not_read(names)] if names else []


def _not_read(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    read = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    return (
        f"{', '.join(names[:5])}{more}: of a type that is not read ({read} are): save "
        "as PNG, or remove"
    )


def _root(files: Files) -> PurePosixPath:
    """The one folder that holds images/ and masks/."""
    roots = set()
    for name in filter(is_image, files.names()):
        parts = PurePosixPath(name).parts
        for place, part in enumerate(parts[:-1]):
            if part in ("images", "masks"):
                roots.add(PurePosixPath(*parts[:place]))
                break
    if len(roots) == 1:
        return roots.pop()
    flat = [n for n in files.names() if PurePosixPath(n).parent.name == "images"]
    others = [name for name in flat if is_unread(name)]
    if others and not roots:
        raise SourceError(f"{files.label}: {_not_read(others)}")
    found = sorted({PurePosixPath(name).parts[0] for name in files.names()})
    what = "several images/ folders" if roots else "no images/ and masks/ folders"
    raise SourceError(
        f"{files.label}: {what}; found {', '.join(found[:6])}; expected {WANTED}"
    )


def _below(files: Files, folder: PurePosixPath) -> tuple[list[str], list[str]]:
    """Images directly in `folder`, and those in folders below it."""
    direct, deeper = [], []
    for name in filter(is_image, files.names()):
        path = PurePosixPath(name)
        if path.parent == folder:
            direct.append(name)
        elif folder in path.parents:
            deeper.append(name)
    return direct, deeper
