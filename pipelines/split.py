"""Stage `split`: who is trained on, selected on and tested; reads no image.

Folds, seeds and protocols are tried without preparing the data again.
"""

import sys

from kmunet.config import Params
from kmunet.data.division import write_split
from kmunet.data.record import SPLITS
from kmunet.data.store import PackedSet, open_prepared
from pipelines.paths import Paths
from pipelines.stage import short, stage_main


def run(params: Params, paths: Paths) -> None:
    """Divide data/prepared/<dataset>; write data/splits/<dataset>; print a table."""
    prepared = open_prepared(short(paths.prepared))
    settings = params.split.model_dump(mode="json")
    print(summary(write_split(prepared, short(paths.splits), params.split, settings)))


def summary(packed: PackedSet) -> str:
    """A line a split, then the notes."""
    lines = [f"{'split':<12}{'images':>8}{'empty':>8}{'mean lesion share':>20}"]
    for name in SPLITS:
        row = packed.division["counts"][name]
        share = f"{100 * row['foreground']:.1f} %"
        lines.append(f"{name:<12}{row['images']:>8}{row['empty']:>8}{share:>20}")
    lines += [f"note: {text}" for text in packed.division["notes"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(stage_main("split", run))
