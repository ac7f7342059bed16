"""What a run came to for one data set, read back from its files."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmunet.errors import KMUNetError


@dataclass(frozen=True)
class Result:
    """One data set's outcome, and where its report and model are kept."""

    dataset: str
    stages: Mapping[str, str]  # address -> Completed, Cached
    report: Path
    model: Path
    metrics: Mapping[str, Any] = field(default_factory=dict)
    standing: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row of the result table."""
        found = self.metrics
        return {
            "data set": self.dataset,
            "IoU": _with_interval(found.get("iou")),
            "Dice": _with_interval(found.get("dice")),
            "images": found.get("images", ""),
            "misses": found.get("misses", ""),
            "false alarms": found.get("false_alarms", ""),
            "model": self.standing,
        }


def read_metrics(path: Path) -> dict[str, Any]:
    """Return a stage's metrics; empty where there are none."""
    return _read(path)


def standing(root: Path, registration: Path) -> str:
    """Return what MLflow's registry says of this model: version and aliases."""
    found = _read(registration)
    if not {"identity", "model"} <= found.keys():
        return ""
    try:
        with _own_environment():
            return _role(root, found["model"], found["identity"])
    except KMUNetError:
        return f"{found['model']} (MLflow does not answer)"


def _role(root: Path, model: str, identity: str) -> str:
    from pipelines.tracking import CHAMPION, Registry  # seconds to import

    registry = Registry(root, model)
    version, champion = registry.find("identity", identity), registry.alias(CHAMPION)
    if version is None:
        return f"{model} (not in this MLflow; --force registers it)"
    leads = champion is not None and champion.version == version.version
    return f"{model} v{version.version}{', champion' if leads else ''}"


@contextmanager
def _own_environment() -> Iterator[None]:
    """Undo what mlflow sets: its variables would reach the next data set's stages."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_interval(value: Any) -> str:
    if not isinstance(value, dict) or "mean" not in value:
        return ""
    text = f"{value['mean']:.3f}"
    if value.get("low") is None or value.get("high") is None:
        return text
    return f"{text} ({value['low']:.3f}, {value['high']:.3f})"
