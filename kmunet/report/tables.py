"""Tables as CSV and metrics as JSON: for people, for `dvc plots`, for comparing runs.

Floats go to 6 digits, so that a file changes when a result does.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

PER_IMAGE = (
    "id", "category", "group", "outcome", "iou", "dice", "precision", "recall",
    "specificity", "hd95", "truth_pixels", "predicted_pixels",
)  # fmt: skip
CURVES = ("epoch", "train_loss", "val_loss", "val_iou")
HISTOGRAM = ("iou", "images")
BINS = 10


def write_tables(
    folder: Path,
    table: Sequence[Row],
    history: Sequence[Row],
    classes: Iterable[str] = (),
) -> None:
    """Write per_image.csv, curves.csv and iou_histogram.csv into `folder`.

    `classes`: of rows with scores by class; their IoU, where they are, in columns more.
    """
    own = {f"iou {name}": name for name in classes}
    rows = [{**row, **{c: _own_iou(row, n) for c, n in own.items()}} for row in table]
    write_csv(folder / "per_image.csv", (*PER_IMAGE, *own), rows)
    write_csv(folder / "curves.csv", CURVES, history)
    write_csv(folder / "iou_histogram.csv", HISTOGRAM, histogram(table))


def _own_iou(row: Row, name: str) -> float | None:
    scores = row["classes"][name]
    return None if scores["outcome"] == "empty" else scores["iou"]


def histogram(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Images by IoU in ten equal bins; the last one holds 1."""
    counts = [0] * BINS
    for row in table:
        counts[min(int(row["iou"] * BINS), BINS - 1)] += 1
    return [
        {"iou": f"{n / BINS:.1f} to {(n + 1) / BINS:.1f}", "images": images}
        for n, images in enumerate(counts)
    ]


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON with sorted keys; the file appears whole or not at all."""
    text = json.dumps(rounded(metrics), indent=2, sort_keys=True, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def rounded(value: Any) -> Any:
    """The same tree of mappings with every float at 6 digits."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write the named columns; None and NaN become an empty field."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_field(row.get(column)) for column in columns])


def _field(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return rounded(value)
