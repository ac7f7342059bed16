"""Numbers that describe one image, and a whole data set."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kmunet.data.decode import Pixels
from kmunet.data.record import Record

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Of the decoded 8-bit pixels of one image."""

    mean: tuple[float, ...]  # red, green, blue; 0 to 255
    std: tuple[float, ...]
    low: int
    high: int
    colour: bool  # whether the channels differ anywhere


def measure(image: Pixels) -> Statistics:
    """Statistics of uint8 RGB (H, W, 3)."""
    mean, std = cv2.meanStdDev(image)
    red, green, blue = cv2.split(image)
    same = np.array_equal(red, green) and np.array_equal(red, blue)
    return Statistics(
        mean=tuple(round(float(value), 3) for value in mean.ravel()),
        std=tuple(round(float(value), 3) for value in std.ravel()),
        low=int(image.min()),
        high=int(image.max()),
        colour=not same,
    )


def fingerprint(
    records: Sequence[Record], statistics: Sequence[Statistics]
) -> dict[str, Any]:
    """Sizes, channels, intensity, foreground and class balance of a data set.

    `sha256` is of all pixels of images and masks, whatever their names and order.
    """
    content = "".join(sorted(record.sha256 for record in records))
    sizes = Counter(f"{record.width}x{record.height}" for record in records)
    lesions = [record.foreground for record in records if record.foreground > 0.0]
    return {
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "images": len(records),
        "sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]),
        "distinct_sizes": len(sizes),
        "width": _spread([record.width for record in records]),
        "height": _spread([record.height for record in records]),
        "colour": sum(item.colour for item in statistics),
        "grey": sum(not item.colour for item in statistics),
        "mean": _channels([item.mean for item in statistics]),
        "std": _channels([item.std for item in statistics]),
        "empty": len(records) - len(lesions),
        "foreground": _spread(lesions),
        "classes": dict(sorted(Counter(r.category or "" for r in records).items())),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = np.quantile(values, _QUANTILES)
    return {
        f"{100 * q:g} %": round(float(v), 6)
        for q, v in zip(_QUANTILES, found, strict=True)
    }


def _channels(values: Sequence[tuple[float, ...]]) -> list[float]:
    if not values:
        return []
    return [round(float(value), 3) for value in np.mean(values, axis=0)]
