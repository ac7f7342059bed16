"""Stage split, as DVC calls it: from the index alone, as often as folds ask."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kmunet.config import load_params
from kmunet.data.pack import write_packed
from kmunet.data.record import SPLITS
from kmunet.data.sources import open_source
from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, split
from pipelines.paths import Paths
from pipelines.stage import stage_main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A workspace in which prepare has run, and its raw data are gone."""
    paths = Paths(tmp_path_factory.mktemp("split"), "synthetic")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["sources"]["synthetic"]["sizes"] = [32]
    paths.params.write_text(yaml.safe_dump(params))
    write_synthetic(paths.raw, 24, 40, seed=2)
    prepare.run(load_params(paths.params), paths)
    shutil.rmtree(paths.raw)
    return paths


@pytest.fixture
def workspace(done, tmp_path, monkeypatch):
    shutil.copytree(done.root, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Paths(tmp_path, "synthetic")


def run(paths, **changes):
    params = yaml.safe_load(paths.params.read_text())
    params["split"].update(changes)
    paths.params.write_text(yaml.safe_dump(params))
    return stage_main("split", split.run, ["--dataset", "synthetic"])


def opened(paths):
    return open_packed(paths.prepared, paths.splits)


def test_it_divides_and_prints_a_line_a_split(workspace, capsys):
    assert run(workspace) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["split", *SPLITS]
    assert sum(int(line.split()[1]) for line in lines[1:]) == 24
    packed = opened(workspace)
    assert packed.manifest["split"]["seed"] == 2981
    assert packed.manifest["source"] == "folder"


def test_what_the_system_refuses_is_a_line_with_the_file(workspace, capsys):
    (workspace.root / "data/splits").write_text("no folder")
    assert run(workspace) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: split: data/splits: File exists"


def test_splits_json_says_who_is_where(workspace):
    run(workspace)
    table = json.loads((workspace.splits / "splits.json").read_text())
    assert table["splits"] == {r.id: r.split for r in opened(workspace).records}
    assert table["settings"]["protocol"] == "clean"
    assert table["groups"] == {}  # no two drawn images are alike


def test_a_rerun_gives_the_same_bytes(workspace):
    def contents():
        return {path.name: path.read_bytes() for path in workspace.splits.iterdir()}

    run(workspace)
    first = contents()
    run(workspace, seed=7)
    assert contents() != first
    run(workspace, seed=2981)
    assert contents() == first
    assert sorted(first) == [
        "clusters.npy", "names.bin", "names.npy", "places.npy", "split.json",
        "splits.json",
    ]  # fmt: skip


def test_folds_test_every_image_once_and_no_pixel_is_read(workspace):
    pixels = [p for p in workspace.prepared.rglob("*-0*") if p.is_file()]
    assert len(pixels) == 3
    for path in pixels:  # as long as they were, and hold nothing
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmunet.data.prepared._load", _without_pixels)
        tested = []
        for fold in range(3):
            assert run(workspace, folds=3, fold=fold) == 0
            tested += opened(workspace).indices("test").tolist()
    assert sorted(tested) == list(range(24))


def _without_pixels(path, shape, kind):
    if path.parent.name.isdigit():
        return np.broadcast_to(np.uint8(0), shape)
    return np.load(path, mmap_mode="r")


def test_the_paper_selects_on_the_images_that_it_reports(workspace, capsys):
    assert run(workspace, protocol="paper") == 0
    packed = opened(workspace)
    held = packed.indices("test")
    assert len(held) == 5
    assert packed.indices("validation").tolist() == held.tolist()
    assert set(packed.indices("train")).isdisjoint(held)
    assert "selects the epoch on the images that it reports" in capsys.readouterr().out


def test_data_that_grow_keep_their_places(tmp_path, monkeypatch, capsys):
    """The test images of today are none that yesterday's champion learnt from."""
    paths = Paths(tmp_path, "synthetic")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_synthetic(tmp_path / "all", 60, 40, seed=6)
    found = []
    for count in (48, 60):
        for kind in ("images", "masks"):
            (paths.raw / kind).mkdir(parents=True, exist_ok=True)
            for file in sorted((tmp_path / "all" / kind).iterdir())[:count]:
                shutil.copy(file, paths.raw / kind)
        prepare.run(load_params(paths.params), paths)
        assert run(paths, stable=True) == 0
        records = opened(paths).records
        found.append({record.id: record.split for record in records})
    before, after = found
    assert len(after) == 60
    assert {name: after[name] for name in before} == before
    assert "note: split.stable: a place by each" in capsys.readouterr().out


def test_too_few_images_and_no_data_are_one_message(workspace, capsys):
    assert run(workspace, folds=50) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: split: 24 distinct images (or groups) cannot fill")
    assert not workspace.splits.exists()
    shutil.rmtree(workspace.prepared)
    assert run(workspace) == 2
    text = capsys.readouterr().err
    assert "prepared/synthetic/index.json: no such file; run the prepare" in text


def _folder(root, order, names, seed):
    """The same pairs in another order under other names; two of them are equal."""
    source = root / "drawn"
    if not source.exists():
        write_synthetic(source, 14, 32, seed=4)
        for kind in ("images", "masks"):
            files = sorted((source / kind).iterdir())
            shutil.copy(files[0], source / kind / "twin.png")
    target = root / f"{seed}"
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
        for name, old in zip(names, order, strict=True):
            file = sorted((source / kind).iterdir())[old]
            shutil.copy(file, target / kind / f"{name}.png")
    return target


names = st.lists(st.integers(0, 10**6), min_size=15, max_size=15, unique=True)


@given(st.permutations(range(15)), names, st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_neither_order_nor_names_matter(tmp_path_factory, order, names, seed):
    """From files to the split, by the pixels of each image."""
    root = tmp_path_factory.mktemp("order")
    rules = load_params(ROOT / "params.yaml").split.model_copy(update={"seed": seed})
    found = []
    for number, own in enumerate((range(15), order)):
        raw = _folder(root, own, names, number)
        with open_source("folder", raw) as source:
            prepared = write_packed(root / f"set{number}", source, [32])
        packed = split.write_split(prepared, root / f"split{number}", rules, {})
        found.append(sorted((r.sha256, r.split) for r in packed.records))
        twins = [link for link in prepared.links() if link.kind == "exact"]
        assert len(twins) == 1
        a, b = (packed.records[row] for row in (twins[0].a, twins[0].b))
        assert a.split == b.split
        assert a.group == b.group == f"like {min(a.id, b.id)}"
        assert sum(record.group is not None for record in packed.records) == 2
    assert found[0] == found[1]


def test_another_fold_prepares_nothing(tmp_path):
    """DVC itself: with another split.fold, `split` is stale and `prepare` is not."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in ("dvc.yaml", "params.yaml", "kmunet", "pipelines"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, tmp_path / name
        )
    (tmp_path / ".venv").symlink_to(sys.prefix)
    write_synthetic(tmp_path / "data" / "raw" / "synthetic", 24, 40, seed=2)

    def dvc(*arguments):
        command = [sys.executable, "-m", "dvc", *arguments]
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return made.stdout

    dvc("init", "--quiet")
    dvc("config", "core.analytics", "false")
    dvc("commit", "--force", "--quiet", "synthesize")
    dvc("repro", "-s", "prepare@synthetic")
    dvc("repro", "-s", "split@synthetic")
    path = tmp_path / "params.yaml"
    changed = (
        path.read_text().replace("folds: 1 ", "folds: 3 ").replace("fold: 0", "fold: 2")
    )
    assert changed != path.read_text()
    path.write_text(changed)
    said = dvc("repro", "--dry", "split@synthetic")
    assert "Stage 'prepare@synthetic' didn't change, skipping" in said
    assert "Running stage 'split@synthetic'" in said
