"""`open_source`: the reader of each kind of data set that params.yaml can name."""

from collections.abc import Sequence
from pathlib import Path

from kmunet.data.busi import open_busi
from kmunet.data.folder import open_folder
from kmunet.data.pairs import Pair, Source
from kmunet.errors import ConfigError, SourceError

__all__ = ["Pair", "Source", "open_source"]


def open_source(kind: str, path: Path, classes: Sequence[str] | None = None) -> Source:
    """The pairs below `path` (data/raw/<dataset>/, or a zip), read as `kind`.

    `classes`: which categories to read (busi); None for all. Raises SourceError
    where the path is missing or holds something else, ConfigError for `kind`.
    """
    if kind == "busi":
        source = open_busi(path, classes)
    elif kind == "folder":
        if classes is not None:
            raise ConfigError("sources: classes: only kind 'busi' has classes")
        source = open_folder(path)
    else:
        raise ConfigError(f"sources: kind: unknown '{kind}'; choose folder or busi")
    if not source.matched and not source.problems:
        source.close()
        raise SourceError(f"{path}: no pairs of image and mask")
    return source
