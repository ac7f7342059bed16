"""Stage `prepare`: read, check and pack one data set, whatever its split will be."""

import sys
from pathlib import Path

from kmunet.config import Params
from kmunet.data.pack import write_packed
from kmunet.data.prepared import Prepared
from kmunet.data.provenance import raw_record
from kmunet.data.sources import open_source
from pipelines.paths import Paths
from pipelines.stage import short, stage_main


def run(params: Params, paths: Paths) -> None:
    """Pack data/raw/<dataset> into data/prepared/<dataset>; print a summary.

    The checksums of the raw files lie apart: the same images from other files are the
    same prepared data.
    """
    declared = params.source(paths.dataset)
    native = params.prepare.native
    with open_source(
        declared.kind, short(paths.raw), declared.classes, declared.values
    ) as source:
        packed = write_packed(
            short(paths.prepared),
            source,
            declared.sizes,
            native=native,
            native_bytes=_bytes_below(paths.raw) if native else 0,
        )
    record = raw_record(short(paths.raw), declared.kind)
    paths.provenance.parent.mkdir(parents=True, exist_ok=True)
    paths.provenance.write_bytes(record)
    print(summary(packed))


def summary(packed: Prepared) -> str:
    """How many images at which sizes, then the warnings."""
    sizes = ", ".join(f"{size}x{size}" for size in packed.sizes)
    own = " and at their own size" if packed.header["native"] else ""
    lines = [f"{len(packed)} images and masks at {sizes} pixels{own}"]
    return "\n".join([*lines, *(f"note: {text}" for text in packed.header["warnings"])])


def _bytes_below(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(stage_main("prepare", run))
