"""Small data, prepared and split, and commands called as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from kmunet.config import parse_params
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, split
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]


def tiny_workspace(root):
    """Paths and params of 40 synthetic images for tiny models."""
    paths = Paths(root, "synthetic")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["synthesize"] |= {"images": 40, "size": 48}
    raw["sources"]["synthetic"]["sizes"] = [32]
    raw["model"]["widths"] = [16, 24, 32]
    raw["train"] |= {"threads": 1, "batch_size": 4}
    raw["evaluate"] |= {"bootstrap": 200}
    paths.params.write_text(yaml.safe_dump(raw))
    params = parse_params(raw)
    write_synthetic(paths.raw, **params.synthesize.model_dump())
    prepare.run(params, paths)
    split.run(params, paths)
    return paths, params


def verified(root, model):
    """What `kmunet verify` says of a model that reproduces."""
    done = subprocess.run(
        [sys.executable, "-m", "kmunet", "verify", str(model)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
