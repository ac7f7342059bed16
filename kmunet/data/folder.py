"""Source `folder`: images/ and masks/ with the same stems, in a folder or one zip.

Masks may lie in masks/0/ (the layout of U-KAN and KM-UNet) and may be named
STEM, STEM_mask, STEM_mask_1 or STEM_segmentation; several of one image are OR-ed.
"""

from pathlib import Path, PurePosixPath

from kmunet.data.archive import Files, is_image, open_files
from kmunet.data.pairs import Source, match_pairs
from kmunet.errors import SourceError

WANTED = "images/ and masks/ with the same file names (or one zip that holds these)"


def open_folder(path: Path) -> Source:
    """Pairs below `path`. Raises SourceError where the two folders are not found."""
    files = open_files(path, WANTED)
    try:
        images, masks = _lists(files)
    except SourceError:
        files.close()
        raise
    pairs, problems = match_pairs(images, masks, files, category=None)
    return Source("folder", files, tuple(pairs), tuple(problems))


def _lists(files: Files) -> tuple[list[str], list[str]]:
    root = _root(files)
    images = _below(files, root / "images")
    masks = _below(files, root / "masks")
    classes = sorted({PurePosixPath(n).parts[len(root.parts) + 1] for n in masks[1]})
    if classes == ["0"] and not masks[0]:
        masks = _below(files, root / "masks" / "0")
    elif classes:
        raise SourceError(
            f"{files.label}: masks/ holds folders ({', '.join(classes[:5])}); one "
            "class is read, from masks/ itself or masks/0/"
        )
    if images[1] or masks[1]:
        raise SourceError(
            f"{files.label}: {(images[1] + masks[1])[0]}: folders inside images/ are "
            "not read; move the files into images/ itself"
        )
    if not images[0] and not masks[0]:
        raise SourceError(f"{files.label}: no images in images/; expected {WANTED}")
    return images[0], masks[0]


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
