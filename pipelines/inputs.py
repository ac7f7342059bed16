"""What a version's images were like, as a table, and whether later ones differ.

Compared are the images that came since with those of the time, statistic by statistic:
the two-sample Kolmogorov-Smirnov test, Bonferroni's correction over the statistics.
Images of one group (patient, sequence) count as one, by their mean.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from kmunet.data.store import PackedSet
from pipelines.fair import content

INPUTS = "inputs.csv"  # in the run of a version
STATISTICS = ("red", "green", "blue", "red_std", "green_std", "blue_std")
LEVEL = 0.01  # of all statistics together: one false alarm in a hundred looks
DISTANCE = 0.15  # between distribution functions: less is no matter, however certain
FEWEST = 20  # new groups that say anything
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How the images that came since differ; `moved`: the statistics that did."""

    known: int  # groups at registration
    new: int
    distances: Mapping[str, float] = field(default_factory=dict)
    p_values: Mapping[str, float] = field(default_factory=dict)  # corrected
    moved: tuple[str, ...] = ()


def image_statistics(packed: PackedSet) -> Values:
    """Mean and deviation of each channel (N, 6), on the scale 0 to 255."""
    place, pixels = packed.prepared.sizes.index(packed.size), packed.size**2
    index = packed.prepared.index
    mean = index["sums"][:, place] / pixels
    square = index["squares"][:, place] / pixels
    return np.hstack([mean, np.sqrt(np.maximum(square - mean**2, 0.0))])


def inputs_table(packed: PackedSet) -> str:
    """inputs.csv: a line an image with its content, the number of its group, and
    STATISTICS; sorted by content, so that the same images give the same bytes.
    """
    rows = sorted(
        (content(packed, row), str(packed.clusters[row]), *(f"{v:.3f}" for v in values))
        for row, values in enumerate(image_statistics(packed))
    )
    lines = [",".join(row) for row in [("content", "group", *STATISTICS), *rows]]
    return "\n".join(lines) + "\n"


def compare_inputs(table: str, packed: PackedSet) -> Shift:
    """The images of `packed` that are not in a version's table against those that are.

    Without enough of them, no statistic is tested.
    """
    known = list(csv.DictReader(io.StringIO(table)))
    before = np.array([[float(row[n]) for n in STATISTICS] for row in known])
    then = _by_group(before.reshape(-1, 6), [int(row["group"]) for row in known])
    contents = {row["content"] for row in known}
    fresh = [n for n in range(len(packed.places)) if content(packed, n) not in contents]
    now = _by_group(image_statistics(packed)[fresh], packed.clusters[fresh].tolist())
    if len(now) < FEWEST or len(then) < FEWEST:
        return Shift(len(then), len(now))
    return _test(then, now)


def _test(then: Values, now: Values) -> Shift:
    distances, p_values = {}, {}
    for column, name in enumerate(STATISTICS):
        found = ks_2samp(then[:, column], now[:, column])
        distances[name] = float(found.statistic)
        p_values[name] = min(float(found.pvalue) * len(STATISTICS), 1.0)
    moved = tuple(
        name
        for name in STATISTICS
        if p_values[name] < LEVEL and distances[name] >= DISTANCE
    )
    return Shift(len(then), len(now), distances, p_values, moved)


def _by_group(values: Values, groups: list[int]) -> Values:
    """Means over groups (G, 6); an image of group -1 is alone."""
    alone = iter(range(-2, -2 - len(groups), -1))
    keys = np.array([group if group >= 0 else next(alone) for group in groups], int)
    _, members = np.unique(keys, return_inverse=True)
    counts = np.bincount(members)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, members, values)
    return sums / np.maximum(counts, 1)[:, None]
