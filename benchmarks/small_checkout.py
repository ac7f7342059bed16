"""A clone of this repository whose pipeline takes seconds: for benchmarks and tests."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines import overrides

ROOT = Path(__file__).parents[1]
SMALL: dict[str, overrides.Value] = {
    "synthesize.images": 24,
    "synthesize.size": 32,
    "sources.synthetic.sizes": [32],
    "model.widths": [16, 24, 32],
    "train.max_steps": 3,
    "train.batch_size": 4,
    "train.epochs": 1,
    "train.threads": 1,
    "evaluate.bootstrap": 100,
    "evaluate.overlays": 2,
}


def make(place: Path, values: Mapping[str, overrides.Value] = SMALL) -> Path:
    """What is committed, with these values of params.yaml, committed too."""
    clone = ["git", "clone", "--quiet", "--no-local", str(ROOT), str(place)]
    subprocess.run(clone, check=True)
    (place / ".venv").symlink_to(sys.prefix)
    overrides.write(place / "params.yaml", values)
    author = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    command = ["git", *author, "commit", "--quiet", "--all", "-m", "small"]
    subprocess.run(command, cwd=place, check=True)
    return place
