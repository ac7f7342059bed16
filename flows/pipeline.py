"""What dvc.yaml declares, and how DVC is called: always as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from flows.retries import is_away
from kmunet.errors import ConfigError, UnreachableError

STAGES = ("prepare", "split", "train", "evaluate", "register")
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")


def addresses(root: Path, dataset: str, *, given: bool) -> list[str]:
    """Return the stages of one data set in order, as DVC addresses them.

    The stage that makes data/raw/DATASET comes first, where dvc.yaml declares one
    and the user has not given the data.
    """
    maker = None if given else source_stage(root, dataset)
    return [*([maker] if maker else []), *(f"{stage}@{dataset}" for stage in STAGES)]


def source_stage(root: Path, dataset: str) -> str | None:
    """Return the stage of dvc.yaml that makes data/raw/DATASET, or None."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    for name, stage in yaml.safe_load(text)["stages"].items():
        if f"data/raw/{dataset}" in _outs(stage):
            return str(name)
    return None


def dvc(root: Path, *arguments: str) -> str:
    """Return the output of a DVC command.

    Raises ConfigError with what DVC says, UnreachableError where its remote is away.
    """
    done = subprocess.run(
        [*DVC, *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"dvc {' '.join(arguments)}: {done.stderr.strip()}"
        raise UnreachableError(said) if is_away(done.stderr) else ConfigError(said)
    return done.stdout


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a stage: this Python first, this workspace's code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # PYTHONPATH reaches Ray's workers too, which do not start in `root`.
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": str(root),
        "PYTHONUNBUFFERED": "1",
    }


def _outs(stage: dict[str, Any]) -> list[str]:
    outs = stage.get("outs", [])
    return [next(iter(out)) if isinstance(out, dict) else str(out) for out in outs]
