"""`open_source`: the reader of each kind of data set that params.yaml can name."""

from collections.abc import Sequence
from pathlib import Path

from kmunet.data.busi import open_busi
from kmunet.data.cvc import open_cvc
from kmunet.data.folder import open_folder
from kmunet.data.glas import open_glas
from kmunet.data.isic import open_isic
from kmunet.data.manifest import open_manifest
from kmunet.data.pairs import Pair, Source
from kmunet.errors import ConfigError, SourceError

__all__ = ["KINDS", "Pair", "Source", "open_source"]

KINDS = ("isic2017", "isic2018", "cvc", "busi", "glas", "folder", "manifest")


def open_source(
    kind: str,
    path: Path | Sequence[Path],
    classes: Sequence[str] | None = None,
    values: Sequence[int | str] | None = None,
) -> Source:
    """The pairs below `path` (data/raw/<dataset>/, or its archives), read as `kind`.

    `classes`: which categories to read (busi; None for all), or what the values of
    masks mean (folder, manifest), with `values` if these are not 1, 2, ... Raises
    SourceError where the path is missing or holds something else, ConfigError for
    settings that the kind does not have.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    _check(kind, classes, values)
    source = _open(kind, paths, tuple(classes or ()), tuple(values or ()))
    if not source.matched and not source.problems:
        source.close()
        raise SourceError(f"{paths[0]}: no pairs of image and mask")
    return source


def _check(
    kind: str, classes: Sequence[str] | None, values: Sequence[int | str] | None
) -> None:
    if kind not in KINDS:
        raise ConfigError(
            f"sources: kind: unknown '{kind}'; choose of {', '.join(KINDS)}"
        )
    if classes is not None and kind not in ("busi", "folder", "manifest"):
        raise ConfigError(f"sources: classes: kind '{kind}' has one class")
    if values is not None and (kind not in ("folder", "manifest") or not classes):
        raise ConfigError(
            "sources: values: only kinds 'folder' and 'manifest' with 'classes' have "
            "values"
        )


def _open(
    kind: str,
    paths: list[Path],
    classes: tuple[str, ...],
    values: tuple[int | str, ...],
) -> Source:
    if kind == "busi":
        return open_busi(paths, classes or None)
    if kind == "cvc":
        return open_cvc(paths)
    if kind == "glas":
        return open_glas(paths)
    if kind == "manifest":
        return open_manifest(paths, classes, values)
    if kind == "folder":
        return open_folder(paths, classes, values)
    return open_isic(kind, paths)
