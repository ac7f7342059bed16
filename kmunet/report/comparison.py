"""Models side by side: comparison.json, CSV tables, figures, and a page of it all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmunet.report.comparison_figures import differences, learning_curves
from kmunet.report.comparison_sheet import SheetRow, write_comparison_sheet
from kmunet.report.page import environment
from kmunet.report.tables import write_csv, write_metrics

Row = Mapping[str, Any]

MODELS = (
    "model", "seeds", "parameters", "flops", "steps", "epochs", "wall", "cpu",
    "step_wall", "step_cpu", "memory", "device_memory", "validation_iou", "best_epoch",
    "iou", "iou_low", "iou_high", "iou_spread",
    "dice", "dice_low", "dice_high", "dice_spread",
    "iou_difference", "iou_difference_low", "iou_difference_high",
    "dice_difference", "dice_difference_low", "dice_difference_high",
    "misses", "false_alarms",
)  # fmt: skip
RUNS = (
    "model", "fold", "seed", "parameters", "flops", "steps", "epochs", "wall", "cpu",
    "step_wall", "step_cpu", "memory", "process_memory", "device_memory",
    "validation_iou", "best_epoch", "iou", "dice",
)  # fmt: skip
CURVES = (
    "model", "fold", "seed", "epoch", "minutes", "cpu_minutes", "lr", "train_loss",
    "val_loss", "val_iou",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """All that is shown. Times in seconds, memory in bytes."""

    facts: Mapping[str, Any]  # dataset, size, counts, budget, seeds, confidence, ...
    models: Sequence[Row]
    runs: Sequence[Row]
    curves: Sequence[Row]
    images: Sequence[Row]
    sheet: Sequence[SheetRow]


def write_comparison(folder: Path, found: Comparison) -> Path:
    """Write report.html and what it links to into `folder`; return its path."""
    names = [row["model"] for row in found.models]
    listed = {"models": list(found.models), "runs": list(found.runs)}
    write_metrics(folder / "comparison.json", {**found.facts, **listed})
    write_csv(folder / "models.csv", MODELS, map(_flat, found.models))
    write_csv(folder / "runs.csv", RUNS, found.runs)
    write_csv(folder / "curves.csv", CURVES, found.curves)
    columns = ("id", "category", "group", "fold", *names)
    write_csv(folder / "per_image.csv", columns, found.images)
    learning_curves(folder / "curves.png", names, found.curves, found.facts["clock"])
    if len(names) > 1:
        differences(folder / "differences.png", found.models)
    sheet = folder / "overlays.png"
    write_comparison_sheet(sheet, names, found.sheet, found.facts["classes"])
    page = folder / "report.html"
    on_gpu = all(row["device_memory"] for row in found.models)
    template = environment().get_template("compare.html.j2")
    html = template.render(c=found, on_gpu=on_gpu, **found.facts)
    page.write_text(html, encoding="utf-8", newline="\n")
    return page


def _flat(row: Row) -> dict[str, Any]:
    """One level, for a CSV table: iou, iou_low, iou_difference, ..."""
    flat = {key: value for key, value in row.items() if not isinstance(value, Mapping)}
    for metric in ("iou", "dice"):
        parts = {metric: row[metric]}
        if row["difference"]:
            parts[f"{metric}_difference"] = row["difference"][metric]
        for name, values in parts.items():
            flat[name] = values["mean"]
            for key in ("low", "high", "spread"):
                flat[f"{name}_{key}"] = values[key]
    return flat
