"""A question to a module of pipelines, as a Prefect task; it answers as JSON."""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from flows.stages import run_command


@dataclass(frozen=True)
class Answer:
    """How the task ended, and what it found: empty where it failed."""

    state: State[Any]
    found: dict[str, Any] = field(default_factory=dict)


def ask(
    module: str,
    dataset: str,
    root: Path,
    *arguments: str,
    limit: float | None = None,
) -> Answer:
    """Run `python -m pipelines.MODULE --dataset DATASET` in `root`, a process apart."""
    with tempfile.TemporaryDirectory(prefix="kmunet-") as folder:
        out = Path(folder) / "answer.json"
        command = [sys.executable, "-m", f"pipelines.{module}", "--dataset", dataset]
        state = run_command(
            f"{module}@{dataset}",
            [*command, *arguments, "--out", str(out)],
            root,
            limit=limit,
        )
        found = json.loads(out.read_text("utf-8")) if state.is_completed() else {}
        return Answer(state, found)
