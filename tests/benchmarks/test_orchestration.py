"""The benchmark of orchestration on the smallest of work."""

import json

import pytest
import yaml

from benchmarks import orchestration, small_checkout
from flows.repository import git


def test_a_small_checkout_is_a_clean_clone(tmp_path):
    root = small_checkout.make(tmp_path / "clone", {"train.epochs": 2})
    assert yaml.safe_load((root / "params.yaml").read_text())["train"]["epochs"] == 2
    assert git(root, "status", "--porcelain", "--untracked-files=no") == ""
    assert (root / ".venv" / "bin" / "python").exists()


def test_a_part_measured_again_leaves_the_others(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    out.write_text('{"other": {"least": 1.0}}')
    part = {"start": (lambda folder, repeats: {"least": repeats * 1.23456}, 1)}
    monkeypatch.setattr(orchestration, "PARTS", part)
    assert orchestration.main(["--parts", "start", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["other"] == {"least": 1.0}
    assert found["start"]["least"] == 1.235
    assert found["start"]["machine"]["cores"]


@pytest.mark.slow
def test_a_training_is_timed_from_its_process_on(tmp_path):
    root = orchestration._prepared(tmp_path / "work", small_checkout.SMALL)
    start, speed = orchestration._train(root, 1, 1)
    assert 0 < start["imports"] < start["first_step"]
    assert start["cpu seconds"] > 0
    assert speed >= 0
