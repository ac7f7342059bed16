"""Percentile bootstrap over images (Efron & Tibshirani, 1993, chapter 13)."""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 2_000_000  # resampled values held at once


class Statistic(Protocol):
    """A number for each row, such as `np.mean` or `np.median`."""

    def __call__(
        self, values: NDArray[np.float64], /, *, axis: int
    ) -> NDArray[np.float64]: ...


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic,
    samples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    """Interval (low, high) of `statistic` over one finite value an image, (N,).

    Images are drawn with replacement `samples` times; the same seed and N draw the
    same images, so intervals of two metrics are of the same resamples.
    Raises ValueError for no values or values that are not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError("bootstrap_interval needs finite values (N,), N at least 1")
    if samples < 1 or not 0.0 < confidence < 1.0:
        raise ValueError("samples must be at least 1 and confidence between 0 and 1")
    drawn = _resample(data, statistic, samples, np.random.default_rng(seed))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, (tail, 1.0 - tail))
    return float(low), float(high)


def _resample(
    data: NDArray[np.float64],
    statistic: Statistic,
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    rows = max(1, _BLOCK // data.size)
    parts = []
    for start in range(0, samples, rows):
        shape = (min(rows, samples - start), data.size)
        parts.append(statistic(data[rng.integers(data.size, size=shape)], axis=1))
    return np.concatenate(parts)
