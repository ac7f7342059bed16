"""The test images of the sheet: from worst to best by the first model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kmunet.config import EvaluateParams
from kmunet.data.resize import resize_maps
from kmunet.data.store import PackedSet
from kmunet.device import choose_device
from kmunet.inference import Predictor, labels
from kmunet.report.comparison_sheet import SheetRow
from pipelines.comparison.runs import Result
from pipelines.scoring import scored_pair

PLACES = {
    "worst": 0.0,
    "lower quartile": 0.25,
    "median": 0.5,
    "upper quartile": 0.75,
    "best": 1.0,
}


def chosen(result: Result) -> dict[str, int]:
    """Positions in the table by name, none twice; images with a lesion if there are."""
    table = result.table
    lesions = [n for n, row in enumerate(table) if row["truth_pixels"]]
    order = sorted(lesions or range(len(table)), key=lambda n: (table[n]["iou"], n))
    found: dict[str, int] = {}
    for name, place in PLACES.items():
        position = order[round(place * (len(order) - 1))]
        if position not in found.values():
            found[name] = position
    return found


def sheet_rows(
    firsts: Sequence[Result], packed: PackedSet, params: EvaluateParams
) -> list[SheetRow]:
    """Of one result a model, the first one's order."""
    places = chosen(firsts[0])
    rows = [firsts[0].table[n]["row"] for n in places.values()]
    preds = [_masks(result, packed, rows, params) for result in firsts]
    return [
        SheetRow(
            f"{name}: {firsts[0].table[position]['id']}",
            *scored_pair(packed, rows[n], params),
            [masks[n] for masks in preds],
            [result.table[position]["iou"] for result in firsts],
        )
        for n, (name, position) in enumerate(places.items())
    ]


def _masks(
    result: Result, packed: PackedSet, rows: list[int], params: EvaluateParams
) -> list[NDArray[np.uint8]]:
    """As they were scored."""
    device = choose_device(result.run.params.train.device)
    maps = Predictor.load(result.run.weights, device).batch(packed.images[rows])
    found = []
    for row, probabilities in zip(rows, maps, strict=True):
        if params.resolution == "native":
            size = packed.prepared.native_mask(row).shape
            probabilities = resize_maps(probabilities, *size)
        found.append(labels(probabilities, params.threshold))
    return found
