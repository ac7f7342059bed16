"""Raw data that DVC tracks (dvc add, dvc import-url): brought back where they are not.

data/raw/NAME.dvc tracks the folder; data/raw/NAME/FILE.dvc one download in it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from flows.pipeline import dvc
from kmunet.errors import ConfigError
from pipelines.paths import Paths


def tracked(root: Path, dataset: str) -> list[Path]:
    """The .dvc files of a data set's raw data."""
    raw = Paths(root, dataset).raw
    whole = raw.with_name(f"{dataset}.dvc")
    return [whole] if whole.exists() else sorted(raw.glob("*.dvc"))


def restore(root: Path, dataset: str, log: Callable[[str], None]) -> None:
    """Bring back what is tracked and not there: from DVC's cache, else its remote."""
    files = [
        file for file in tracked(root, dataset) if not file.with_suffix("").exists()
    ]
    if not files:
        return
    names = [os.fspath(file.relative_to(root)) for file in files]
    try:
        dvc(root, "checkout", *names)
    except ConfigError:
        log(f"{', '.join(names)}: not in DVC's cache: dvc pull")
        dvc(root, "pull", *names)
