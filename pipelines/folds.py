"""Cross-validation: in turn each part is tested, the next one selected on."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from kmunet.config import Params
from kmunet.data.division import write_split
from kmunet.data.prepared import Prepared
from kmunet.data.store import PackedSet, open_packed, open_prepared
from kmunet.errors import ConfigError, DataError
from pipelines.as_prepared import check_prepared, how_to_prepare
from pipelines.paths import Paths


def open_dataset(root: Path, params: Params, dataset: str) -> Prepared:
    """The prepared data of one data set. DataError says how to prepare it."""
    params.size(dataset)
    paths, how = Paths(root, dataset), how_to_prepare(params, dataset)
    if not paths.prepared.is_dir():
        raise DataError(
            f"{dataset} is not prepared: data/prepared/{dataset} is missing; with the "
            f"download in data/raw/{dataset}/, run {how}"
        )
    prepared = open_prepared(paths.prepared)
    check_prepared(prepared, params, dataset, how)
    return prepared


def each_fold(params: Params) -> Iterator[Params]:
    """The same parameters for fold 0 to split.folds - 1."""
    for fold in range(params.split.folds):
        own = params.split.model_copy(update={"fold": fold})
        yield params.model_copy(update={"split": own})


def check_folds(params: Params, prepared: Prepared, dataset: str) -> None:
    """Raise ConfigError where all folds would be tested on the same images."""
    if params.split.folds < 2 or not params.split.official:
        return
    if prepared.header["splits"] and "test" in prepared.known_splits():
        raise ConfigError(
            f"{dataset} has a test set of its own, and {params.split.folds} folds "
            "would all be tested on it: no cross-validation; leave out --folds (seeds "
            "alone), or --set split.official=false to divide all images into folds"
        )


def divided(prepared: Prepared, params: Params, folder: Path) -> PackedSet:
    """The split of these parameters, in `folder`, at `train.size`. Reads no pixel."""
    settings = params.split.model_dump(mode="json")
    write_split(prepared, folder, params.split, settings)
    return open_packed(prepared.folder, folder, params.train.size)


def divided_in_passing(prepared: Prepared, params: Params) -> PackedSet:
    """The same, of which nothing stays on disk."""
    with tempfile.TemporaryDirectory(prefix="kmunet-split-") as folder:
        return divided(prepared, params, Path(folder, "split"))
