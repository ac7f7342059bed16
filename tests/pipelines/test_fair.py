"""Whom a champion may be judged on: nobody of whom it has learnt a part."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from kmunet.config import parse_params
from kmunet.data.store import open_packed
from pipelines import prepare, split
from pipelines.fair import content, fair_rows
from pipelines.paths import Paths


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Two images each of twelve patients, and six without a name."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    raw["sources"] = {"scans": {"kind": "manifest", "sizes": [32]}}
    raw["datasets"] = ["scans"]
    params = parse_params(raw)
    paths = Paths(tmp_path_factory.mktemp("workspace"), "scans")
    paths.raw.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["image,mask,group"]
    for number in range(30):
        for name, top in (("i", 255), ("m", 2)):
            pixels = rng.integers(0, top, (40, 40), np.uint8)
            pixels = pixels * 255 if name == "m" else pixels
            Image.fromarray(pixels).save(paths.raw / f"{name}{number}.png")
        patient = f"p{number // 2}" if number < 24 else ""
        lines.append(f"i{number}.png,m{number}.png,{patient}")
    (paths.raw / "manifest.csv").write_text("\n".join(lines) + "\n")
    prepare.run(params, paths)
    split.run(params, paths)
    return open_packed(paths.prepared, paths.splits)


def test_the_other_images_of_a_patient_go_with_what_was_learnt(packed):
    test = packed.indices("test").tolist()
    groups = packed.clusters.tolist()
    assert fair_rows(None, None, packed) == test
    one = next(row for row in test if groups[row] >= 0)
    alone = [row for row in range(30) if groups[row] == -1]
    learnt = frozenset(content(packed, row) for row in (one, alone[0]))
    registry = SimpleNamespace(learnt_from=lambda _: learnt)
    left = fair_rows(registry, "any", packed)
    assert left == [
        row for row in test if groups[row] != groups[one] and row != alone[0]
    ]
    assert len(left) <= len(test) - 2
