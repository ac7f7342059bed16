"""`kmunet verify` of what another split than data/splits was trained on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kmunet.cli import main
from kmunet.config import parse_params
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, split
from pipelines.paths import Paths
from pipelines.receipt import read_receipt

ROOT = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path):
    """A workspace whose three folds are compared; data/splits has one split."""
    paths = Paths(tmp_path, "synthetic")
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
    return paths


def test_a_fold_is_replayed_on_its_own_images(paths, monkeypatch):
    monkeypatch.chdir(paths.root)
    several = ("--models", "u_kan", "--folds", "3", "--epochs", "1")
    assert main(["compare", paths.dataset, *several]) == 0
    models = (paths.root / ".kmunet" / "compare").glob("*/model/synthetic")
    (second,) = [m for m in models if read_receipt(m).params["split"]["fold"] == 1]
    done = subprocess.run(
        [sys.executable, "-m", "kmunet", "verify", str(second)],
        cwd=paths.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    losses = len(read_receipt(second).losses)
    said = f"synthetic: reproduces: the first {losses} losses are the same bits"
    assert done.stdout.strip() == said  # and nothing of other data
