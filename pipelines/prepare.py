"""Stage `prepare`: read, check and pack one data set, whatever its split will be."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kmunet.config import Params
from kmunet.data.pack import write_packed
from kmunet.data.prepared import Prepared
from kmunet.data.sources import open_source
from kmunet.errors import ConfigError
from pipelines.paths import Paths
from pipelines.stage import short, stage_main


def run(params: Params, paths: Paths) -> None:
    """Pack data/raw/<dataset> into data/prepared/<dataset>; print a summary."""
    declared = params.source(paths.dataset)
    native = params.prepare.native
    with open_source(
        declared.kind, short(paths.raw), declared.classes, declared.values
    ) as source:
        _require_one_class(paths.dataset, source.classes)
        packed = write_packed(
            short(paths.prepared),
            source,
            declared.sizes,
            native=native,
            native_bytes=_bytes_below(paths.raw) if native else 0,
        )
    print(summary(packed))


def summary(packed: Prepared) -> str:
    """How many images at which sizes, then the warnings."""
    sizes = ", ".join(f"{size}x{size}" for size in packed.sizes)
    own = " and at their own size" if packed.header["native"] else ""
    lines = [f"{len(packed)} images and masks at {sizes} pixels{own}"]
    return "\n".join([*lines, *(f"note: {text}" for text in packed.header["warnings"])])


def _require_one_class(dataset: str, classes: Sequence[str]) -> None:
    if len(classes) > 1:
        raise ConfigError(
            f"params.yaml: sources.{dataset}.classes: {', '.join(classes)}: training "
            "takes one class so far; declare one (and its 'values' in the masks)"
        )


def _bytes_below(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(stage_main("prepare", run))
