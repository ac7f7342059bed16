"""The gate: does a challenger beat the champion on the same test images?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmunet.config import EvaluateParams, GateParams
from kmunet.errors import ServiceError
from kmunet.evaluation import bootstrap_interval, score_labels
from kmunet.evaluation.bootstrap import group_members
from kmunet.inference import labels

FEWEST = 10  # test images that say anything
FEWEST_GROUPS = 10  # patients: resamples of fewer are too narrow for a bound


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
    count = len(group_members(groups or [None] * len(gains)))
    if count < FEWEST_GROUPS:
        return Decision(
            False,
            f"{text}, of {count} independent groups: a bound needs {FEWEST_GROUPS}; "
            "test more patients, or set register.gate.confidence to 0",
        )
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


def unfair(learnt: int, images: int) -> Decision:
    """The champion has seen nearly all test images: it stays, and a person decides."""
    return Decision(
        False,
        f"the champion learnt from {learnt} of the {images} test images (another split "
        f"or other data then), which leaves fewer than {FEWEST} to compare on: set the "
        "alias 'champion' in MLflow by hand to replace it",
    )


def selected_on(met: int, images: int) -> Decision:
    """The challenger has: under protocol `paper` the test images choose the epoch."""
    return Decision(
        False,
        f"its epoch was selected on {met} of the {images} test images that the "
        f"champion does not know, or it learnt from them, which leaves fewer than "
        f"{FEWEST} to compare on: train with split.protocol: clean, or set the alias "
        "'champion' in MLflow by hand",
    )


def scores(
    probabilities: Iterable[NDArray[np.float32]],
    masks: Iterable[NDArray[np.uint8]],
    classes: Sequence[str],
    metric: str,
    threshold: float,
) -> NDArray[np.float64]:
    """Return the metric of each image (N,) from a Predictor's probabilities and masks.

    Raises ServiceError where the probabilities are of other classes.
    """
    found = []
    for own, mask in zip(probabilities, masks, strict=True):
        if (1 if own.ndim == 2 else len(own) - 1) != len(classes):
            raise ServiceError(
                f"a registered version predicts other classes than {', '.join(classes)}"
                ": move the alias 'champion' by hand, or use another register.prefix"
            )
        found.append(score_labels(labels(own, threshold), mask, classes)[metric])
    return np.array(found, dtype=np.float64)
