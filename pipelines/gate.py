"""The gate: does a challenger beat the champion on the same test images?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmunet.config import EvaluateParams, GateParams
from kmunet.evaluation import bootstrap_interval, score_image


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and why, in words for the record."""

    promote: bool
    reason: str


def decide(
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64] | None,
    gate: GateParams,
    evaluate: EvaluateParams,
    groups: Sequence[str | None] | None = None,
) -> Decision:
    """Compare the metric of the same images (N,), paired. None: no champion yet.

    The bound is over `groups` (N): images of one patient are one piece of evidence.
    """
    if champion is None:
        return Decision(
            True, f"first model: mean {gate.metric} {challenger.mean():.4f}"
        )
    gains = challenger - champion
    gain = float(gains.mean())
    text = (
        f"mean {gate.metric} {challenger.mean():.4f} against {champion.mean():.4f} of "
        f"the champion on the same {len(gains)} images: gain {gain:+.4f}"
    )
    if gate.confidence == 0:
        return Decision(gain > gate.min_gain, f"{text}, needed > {gate.min_gain:g}")
    low, _ = bootstrap_interval(
        gains,
        statistic=np.mean,
        samples=evaluate.bootstrap,
        confidence=gate.confidence,
        seed=evaluate.seed,
        groups=groups,
    )
    return Decision(
        low > gate.min_gain,
        f"{text}, lower bound {low:+.4f} at {gate.confidence:.0%}, "
        f"needed > {gate.min_gain:g}",
    )


def scores(
    probabilities: Iterable[NDArray[np.float32]],
    masks: Iterable[NDArray[np.uint8]],
    metric: str,
    threshold: float,
) -> NDArray[np.float64]:
    """Return the metric of each image (N,) from probabilities and masks (H, W)."""
    pairs = zip(probabilities, masks, strict=True)
    return np.array(
        [score_image(p > threshold, m > 0)[metric] for p, m in pairs], dtype=np.float64
    )
