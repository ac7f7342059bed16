"""How a version's mean IoU differs from that of its registration, with an interval.

The images of a look are others, and mostly fewer, than those of the registration: both
means are uncertain. The interval of their difference is that of Zou & Donner (2008),
from the two intervals, whatever their number of images. It takes the two sets as
independent: images in both make it too wide, never too narrow.
"""

from collections.abc import Hashable, Mapping, Sequence
from math import hypot

from kmunet.evaluation.bootstrap import group_members
from pipelines.gate import FEWEST, FEWEST_GROUPS

Interval = Mapping[str, float]  # mean, low, high


def enough(groups: Sequence[Hashable]) -> bool:
    """Whether images of these groups (N) say anything, as the gate asks."""
    return len(groups) >= FEWEST and len(group_members(groups)) >= FEWEST_GROUPS


def change(now: Interval, then: Interval) -> dict[str, float]:
    """Mean and interval of the difference, at the confidence of the two."""
    gain = now["mean"] - then["mean"]
    below = hypot(now["mean"] - now["low"], then["high"] - then["mean"])
    above = hypot(now["high"] - now["mean"], then["mean"] - then["low"])
    return {"mean": gain, "low": gain - below, "high": gain + above}
