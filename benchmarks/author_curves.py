"""Our training with the recipe `paper` beside the log that its authors published.

`python -m benchmarks.author_curves HISTORY DATASET LOG [--out FILE]`: HISTORY is the
history.csv of a model folder, LOG a table with a row an epoch of each data set
(dataset, epoch, train_loss, train_iou, val_loss, val_iou, val_dice). Writes FILE
(JSON) and a plot beside it. Losses compare as they are. The log's IoU is pooled over
batches of 8 images, ours is a mean over images: they agree roughly at most.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, rounded
from kmunet.errors import KMUNetError
from kmunet.inference import read_history

Curves = dict[str, list[float]]
SHOWN = {
    "train_loss": "loss while training",
    "val_loss": "loss, validation",
    "val_iou": "IoU, validation",
}
DEFAULT = Path(__file__).parent / "results" / "author_curves.json"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("history", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    given = parser.parse_args(arguments)
    with given.log.open(encoding="utf-8", newline="") as file:
        log = [row for row in csv.DictReader(file) if row["dataset"] == given.dataset]
    if not log:
        parser.error(f"{given.log} has no data set '{given.dataset}'")
    try:
        history = read_history(given.history)
    except KMUNetError as error:
        parser.error(str(error))
    published = columns(log)
    result = compare(columns(history), published)
    result |= {"dataset": given.dataset, "machine": machine()}
    text = json.dumps(rounded(result), indent=1, sort_keys=True)
    given.out.write_text(text + "\n", encoding="utf-8")
    plot(result, published, given.out.with_suffix(".png"))
    print(as_text(result))


def columns(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """What is SHOWN, epoch by epoch."""
    return {key: [float(row[key]) for row in rows] for key in SHOWN}


def compare(ours: Curves, published: Curves) -> dict[str, Any]:
    """Both, and their mean absolute difference, over the epochs that both have."""
    count = min(len(ours["train_loss"]), len(published["train_loss"]))
    result: dict[str, Any] = {"epochs": count, "mean_difference": {}}
    for key in SHOWN:
        pair = ours[key][:count], published[key][:count]
        result[key] = {"ours": pair[0], "published": pair[1]}
        gaps = [abs(a - b) for a, b in zip(*pair, strict=True)]
        result["mean_difference"][key] = sum(gaps) / count
    return result


def as_text(result: dict[str, Any]) -> str:
    """A line an epoch: ours / published."""
    lines = ["epoch  " + "  ".join(f"{title:>19}" for title in SHOWN.values())]
    for epoch in range(result["epochs"]):
        pairs = [result[key] for key in SHOWN]
        cells = [
            f"{p['ours'][epoch]:9.4f} /{p['published'][epoch]:8.4f}" for p in pairs
        ]
        lines.append(f"{epoch + 1:5}  " + "  ".join(cells))
    gaps = (f"{result['mean_difference'][key]:19.4f}" for key in SHOWN)
    return "\n".join([*lines, "apart  " + "  ".join(gaps)])


def plot(result: dict[str, Any], published: Curves, path: Path) -> None:
    """A panel for each of SHOWN, over four times the epochs that both have."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(SHOWN))
    for panel, (key, title) in zip(axes, SHOWN.items(), strict=True):
        log = published[key][: 4 * result["epochs"]]
        panel.plot(range(1, len(log) + 1), log, color="0.6", label="published log")
        ours = result[key]["ours"]
        panel.plot(range(1, len(ours) + 1), ours, color="C3", label="kmunet")
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("epoch")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{result['dataset']}, recipe paper", fontsize=10)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
