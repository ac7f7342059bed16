"""Stage `prepare`: read, check, split and pack one data set."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmunet.config import Params
from kmunet.data.groups import find_links
from kmunet.data.integrity import alike, examine_all, warnings
from kmunet.data.protocols import Known, artifact, divide
from kmunet.data.provenance import raw_record
from kmunet.data.record import SPLITS
from kmunet.data.sources import Source, open_source
from kmunet.data.store import PackedSet, write_packed
from kmunet.errors import ConfigError
from pipelines.paths import Paths
from pipelines.stage import stage_main


def run(params: Params, paths: Paths) -> None:
    """Pack data/raw/<dataset> into data/prepared/<dataset>; print a summary."""
    declared = params.source(paths.dataset)
    with open_source(
        declared.kind, _short(paths.raw), declared.classes, declared.values
    ) as source:
        _require_one_class(paths.dataset, source.classes)
        found = examine_all(source)
        plain = [item.record for item in found]
        links = find_links(plain, np.stack([item.thumbnail for item in found]))
        settings = params.prepare.model_dump()
        division = divide(plain, links, _known(source), params.prepare)
        records = [
            replace(record, split=split, group=group)
            for record, split, group in zip(
                plain, division.places, division.groups, strict=True
            )
        ]
        about: dict[str, Any] = {
            "source": declared.kind,
            "split": settings,
            "warnings": [
                *source.notes,
                *warnings(records),
                *alike(records, links),
                *division.notes,
            ],
        }
        extra = {"splits.json": artifact(records, division, settings)}
        extra["raw.json"] = raw_record(_short(paths.raw), declared.kind)
        packed = write_packed(
            _short(paths.prepared), source.pairs(), records, declared.size, about, extra
        )
    print(summary(packed))


def summary(packed: PackedSet) -> str:
    """A line a split, then the warnings."""
    lines = [f"{'split':<12}{'images':>8}{'empty':>8}{'mean lesion share':>20}"]
    for name in SPLITS:
        row = packed.manifest["counts"][name]
        share = f"{100 * row['foreground']:.1f} %"
        lines.append(f"{name:<12}{row['images']:>8}{row['empty']:>8}{share:>20}")
    lines += [f"note: {text}" for text in packed.manifest["warnings"]]
    return "\n".join(lines)


def _known(source: Source) -> Known:
    pairs = source.matched
    return Known([p.split for p in pairs], [p.group for p in pairs], source.splits)


def _require_one_class(dataset: str, classes: tuple[str, ...]) -> None:
    if len(classes) > 1:
        raise ConfigError(
            f"params.yaml: sources.{dataset}.classes: {', '.join(classes)}: training "
            "takes one class so far; declare one (and its 'values' in the masks)"
        )


def _short(path: Path) -> Path:
    """Relative to the current folder where it lies below: messages are read there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(stage_main("prepare", run))
