"""How long a run and its stages may take. Where time is up, what runs is ended.

A training saves its state then, and the same run goes on from there.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.pipeline import STAGES
from kmunet.errors import ConfigError

HOUR = 3600.0


class NoTurnError(Exception):
    """The run's time was up before its turn came."""


@dataclass(frozen=True)
class Limits:
    """The end of a run, as time.monotonic() counts, and hours of stages by name."""

    end: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)

    def left(self) -> float | None:
        """Seconds until the run must have ended; None: no limit."""
        return None if self.end is None else max(self.end - time.monotonic(), 0.0)

    def of(self, address: str) -> float | None:
        """Seconds that a stage may take from now on; None: no limit."""
        own = self.stages.get(address.partition("@")[0])
        found = [] if own is None else [own * HOUR]
        left = self.left()
        return min([*found, left] if left is not None else found, default=None)


def make_limits(hours: float | None, stage_hours: Mapping[str, float] | None) -> Limits:
    """Limits that begin now. ConfigError: no such stage, or no time at all."""
    stages = dict(stage_hours or {})
    known = ("synthesize", *STAGES)
    for name in stages:
        if name not in known:
            raise ConfigError(
                f"stage_hours: no stage '{name}': there are {', '.join(known)}"
            )
    for key, value in {"hours": hours, **stages}.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{key}: {value:g} hours: give more than 0, or none")
    end = None if hours is None else time.monotonic() + hours * HOUR
    return Limits(end, stages)
