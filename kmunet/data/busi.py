"""Source `busi`: breast ultrasound images, one folder a class, masks beside images.

Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020)
104863: 780 images, 437 benign, 210 malignant, 133 normal with empty masks.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kmunet.data.archive import Files, is_image, open_files
from kmunet.data.pairs import Pair, Source, mask_owner, match_pairs
from kmunet.errors import ConfigError, SourceError

CLASSES = ("benign", "malignant", "normal")
WANTED = "Dataset_BUSI.zip, or its unpacked folders benign/, malignant/ and normal/,"
FORM = "files such as 'benign/benign (1).png' and 'benign/benign (1)_mask.png'"


def open_busi(path: Path, classes: Sequence[str] | None = None) -> Source:
    """Pairs of the chosen classes (None: all that are there).

    Raises SourceError where this is not BUSI, ConfigError for an unknown class.
    """
    for name in classes or ():
        if name not in CLASSES:
            raise ConfigError(
                f"sources: classes: '{name}' is no class of BUSI; "
                f"choose of {', '.join(CLASSES)}"
            )
    files = open_files(path, WANTED)
    try:
        folders = _folders(files, classes)
    except SourceError:
        files.close()
        raise
    pairs: list[Pair] = []
    problems: list[str] = []
    for category, names in folders.items():
        masks = [name for name in names if mask_owner(name)]
        images = [name for name in names if not mask_owner(name)]
        found, wrong = match_pairs(images, masks, files, category)
        pairs += found
        problems += wrong
    return Source("busi", files, tuple(sorted(pairs, key=_by_id)), tuple(problems))


def _folders(files: Files, classes: Sequence[str] | None) -> dict[str, list[str]]:
    """Image names by class. Raises SourceError where a class is missing."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in filter(is_image, files.names()):
        parent = PurePosixPath(name).parent
        if parent.name.lower() in CLASSES:
            homes = found.setdefault(parent.name.lower(), {})
            homes.setdefault(parent.as_posix(), []).append(name)
    if not found:
        _refuse(files)
    for category, homes in found.items():
        if len(homes) > 1:
            raise SourceError(
                f"{files.label}: class {category} lies in several folders "
                f"({', '.join(sorted(homes))}); keep one"
            )
    missing = [name for name in classes or () if name not in found]
    if missing:
        raise SourceError(
            f"{files.label}: no images in {missing[0]}/; found only "
            f"{', '.join(sorted(found))}: complete the download or drop the class "
            "from 'classes' in params.yaml"
        )
    chosen = sorted(classes or found)
    return {name: next(iter(found[name].values())) for name in chosen}


def _refuse(files: Files) -> None:
    names = [name for name in files.names() if is_image(name)] or files.names()
    folders = sorted({PurePosixPath(name).parent.as_posix() + "/" for name in names})
    raise SourceError(
        f"{files.label}: this is not BUSI: found {', '.join(folders[:4])} with "
        f"{PurePosixPath(names[0]).name if names else 'no files'}; BUSI holds {FORM}"
    )


def _by_id(pair: Pair) -> str:
    return pair.id
