"""The test images of the sheet: from worst to best by the first model."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kmunet.config import EvaluateParams
from kmunet.data.resize import resize_maps
from kmunet.device import choose_device
from kmunet.inference import Predictor, labels
from kmunet.report.comparison_sheet import SheetRow
from pipelines.comparison.runs import Result
from pipelines.comparison.tables import by_model
from pipelines.scoring import scored_pair

PLACES = {
    "worst": 0.0,
    "lower quartile": 0.25,
    "median": 0.5,
    "upper quartile": 0.75,
    "best": 1.0,
}


def chosen(table: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Positions in the table by name, none twice; images with a lesion if there are."""
    lesions = [n for n, row in enumerate(table) if row["truth_pixels"]]
    order = sorted(lesions or range(len(table)), key=lambda n: (table[n]["iou"], n))
    found: dict[str, int] = {}
    for name, place in PLACES.items():
        position = order[round(place * (len(order) - 1))]
        if position not in found.values():
            found[name] = position
    return found


def sheet_rows(found: Sequence[Result], params: EvaluateParams) -> list[SheetRow]:
    """Of one seed's results, all models and folds; the first model's order."""
    first, *_ = models = list(by_model(found).values())
    places = [
        (fold, n) for fold, own in enumerate(first) for n in range(len(own.table))
    ]
    picked = chosen([first[fold].table[n] for fold, n in places])
    return [
        _sheet_row(name, [own[fold] for own in models], n, params)
        for name, (fold, n) in zip(
            picked, (places[position] for position in picked.values()), strict=True
        )
    ]


def _sheet_row(
    name: str, results: Sequence[Result], n: int, params: EvaluateParams
) -> SheetRow:
    """The n-th test image of one fold, as each model has it."""
    packed, table = results[0].run.packed, results[0].table
    row = table[n]["row"]
    return SheetRow(
        f"{name}: {table[n]['id']}",
        *scored_pair(packed, row, params),
        [_mask(result, row, params) for result in results],
        [result.table[n]["iou"] for result in results],
    )


def _mask(result: Result, row: int, params: EvaluateParams) -> NDArray[np.uint8]:
    """As it was scored."""
    packed = result.run.packed
    device = choose_device(result.run.params.train.device)
    (probabilities,) = _predictor(result.run.weights, device).batch(
        packed.images[[row]]
    )
    if params.resolution == "native":
        size = packed.prepared.native_mask(row).shape
        probabilities = resize_maps(probabilities, *size)
    return labels(probabilities, params.threshold)


@lru_cache(maxsize=16)
def _predictor(weights: Path, device: torch.device) -> Predictor:
    return Predictor.load(weights, device)
