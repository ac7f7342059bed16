"""The test images scored one batch at a time: memory does not grow with their number.

At native resolution probabilities go to an image's own size as `Predictor` brings them
there, and are compared with the mask as it was drawn (docs/metrics.md).
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.config import EvaluateParams
from kmunet.data.resize import resize_maps
from kmunet.data.store import PackedSet
from kmunet.errors import DataError
from kmunet.evaluation import (
    pool,
    score_labels,
    shared_pixels,
    summarize,
    summarize_classes,
)
from kmunet.inference import Predictor, labels

Labels = NDArray[np.uint8]
_QUIET = 10.0  # seconds without a word


class MaskFile:
    """Masks of any sizes in a file without a name, eight pixels a byte.

    Or a pixel a byte, of several classes.
    """

    def __init__(self, folder: Path, classes: int = 1) -> None:
        self._binary = classes == 1
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: list[tuple[int, tuple[int, ...]]] = []

    def append(self, mask: Labels) -> None:
        """Keep a mask (H, W), 0 or the class."""
        self._places.append((self._file.seek(0, 2), mask.shape))
        packed = np.packbits(mask) if self._binary else np.ascontiguousarray(mask)
        self._file.write(packed.tobytes())

    def __getitem__(self, number: int) -> Labels:
        start, shape = self._places[number]
        pixels = int(np.prod(shape))
        self._file.seek(start)
        size = -(-pixels // 8) if self._binary else pixels
        data = np.frombuffer(self._file.read(size), np.uint8)
        if self._binary:
            data = np.unpackbits(data, count=pixels)
        return data.reshape(shape)

    def __enter__(self) -> "MaskFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass
class Scored:
    """The test images in the order of the packed set, with what became of them."""

    rows: list[int]  # of the packed set
    preds: MaskFile  # as scored
    table: list[dict[str, Any]] = field(
        default_factory=list
    )  # id, category, group, scores
    shared: list[tuple[int, int]] = field(default_factory=list)  # at the prepared size


def score(
    predictor: Predictor, packed: PackedSet, params: EvaluateParams, preds: MaskFile
) -> Scored:
    """Predict and score the test images; predictions go to `preds`.

    DataError if there are no images.
    """
    scored = Scored(packed.indices("test").tolist(), preds)
    if not scored.rows:
        raise DataError(
            "no image is in the test split: raise split.test in params.yaml "
            "or add images"
        )
    for row, probabilities in _predict(predictor, packed, scored.rows, params):
        pred, truth = labels(probabilities, params.threshold), packed.masks[row]
        scored.shared.append(shared_pixels(pred > 0, truth > 0))
        if params.resolution == "native":
            truth = packed.prepared.native_mask(row)
            own = resize_maps(probabilities, *truth.shape)
            pred = labels(own, params.threshold)
        record = packed.records[row]
        known = {name: getattr(record, name) for name in ("id", "category", "group")}
        scores = score_labels(pred, truth, packed.classes)
        scored.table.append({**known, **scores})
        scored.preds.append(pred)
    return scored


def measure(scored: Scored, params: EvaluateParams) -> dict[str, Any]:
    """The numbers of metrics/<data set>.json that come from the masks alone."""
    iou, dice = pool(scored.shared)
    drawn: dict[str, Any] = {
        "samples": params.bootstrap,
        "confidence": params.confidence,
        "seed": params.seed,
    }
    classes = summarize_classes(scored.table, **drawn)
    return {
        **summarize(scored.table, **drawn),
        **({"classes": classes} if classes else {}),
        "paper": {"pooled_iou": iou, "pooled_dice": dice},
        "resolution": params.resolution,
        "threshold": params.threshold,
    }


def scored_pair(
    packed: PackedSet, row: int, params: EvaluateParams
) -> tuple[NDArray[np.uint8], Labels]:
    """Image and mask at the size at which they are scored."""
    if params.resolution == "native":
        return packed.native(row)
    return packed.images[row], packed.masks[row]


def _predict(
    predictor: Predictor, packed: PackedSet, rows: list[int], params: EvaluateParams
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each row with its probabilities."""
    spoken = time.monotonic()
    for start in range(0, len(rows), params.batch_size):
        batch = rows[start : start + params.batch_size]
        yield from zip(batch, predictor.batch(packed.images[batch]), strict=True)
        if time.monotonic() - spoken > _QUIET:
            spoken = time.monotonic()
            print(f"{start + len(batch)} of {len(rows)} test images", flush=True)
