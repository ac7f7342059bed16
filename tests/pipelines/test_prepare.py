"""Stage prepare, as DVC calls it: in a workspace, with its exit code and message."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml

from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from pipelines.prepare import run
from pipelines.stage import stage_main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["sources"]["synthetic"]["size"] = 32
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    write_synthetic(tmp_path / "data" / "raw" / "synthetic", 24, 40, seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(dataset="synthetic"):
    return stage_main("prepare", run, ["--dataset", dataset])


def test_it_packs_and_prints_a_line_a_split(workspace, capsys):
    assert prepare() == 0
    packed = open_packed(workspace / "data" / "prepared" / "synthetic")
    assert packed.images.shape == (24, 32, 32, 3)
    assert packed.manifest["source"] == "folder"
    assert packed.manifest["split"]["seed"] == 2981
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == [
        "split",
        "train",
        "validation",
        "test",
    ]
    assert sum(int(line.split()[1]) for line in lines[1:4]) == 24
    assert str(workspace) not in (packed.folder / "manifest.json").read_text()


def test_a_rerun_gives_the_same_bytes(workspace):
    folder = workspace / "data" / "prepared" / "synthetic"

    def contents():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    prepare()
    first = contents()
    raw = workspace / "data" / "raw" / "synthetic"
    for path in raw.rglob("*.png"):  # time stamps must not matter
        os.utime(path, (time.time() - 1000,) * 2)
    prepare()
    assert contents() == first
    assert sorted(first) == [
        "images.npy",
        "manifest.json",
        "masks.npy",
        "raw.json",
        "splits.json",
    ]


def _set(workspace, **changes):
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["prepare"].update(changes)
    path.write_text(yaml.safe_dump(params))


def test_splits_json_says_who_is_where(workspace):
    prepare()
    folder = workspace / "data" / "prepared" / "synthetic"
    table = json.loads((folder / "splits.json").read_text())
    packed = open_packed(folder)
    assert table["splits"] == {r.id: r.split for r in packed.records}
    assert table["settings"]["protocol"] == "clean"
    assert table["groups"] == {}  # no two drawn images are alike


def test_folds_test_every_image_once(workspace):
    tested = []
    for fold in range(3):
        _set(workspace, folds=3, fold=fold)
        assert prepare() == 0
        packed = open_packed(workspace / "data" / "prepared" / "synthetic")
        tested += [packed.records[row].id for row in packed.indices("test")]
    assert len(tested) == len(set(tested)) == 24


def test_the_paper_selects_on_the_images_that_it_reports(workspace, capsys):
    _set(workspace, protocol="paper")
    assert prepare() == 0
    packed = open_packed(workspace / "data" / "prepared" / "synthetic")
    held = packed.indices("test")
    assert len(held) == 5
    assert packed.indices("validation").tolist() == held.tolist()
    assert set(packed.indices("train")).isdisjoint(held)
    assert "selects the epoch on the images that it reports" in capsys.readouterr().out


def test_more_than_one_class_is_refused_so_far(workspace, capsys):
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["sources"]["synthetic"].update(classes=["a", "b"])
    path.write_text(yaml.safe_dump(params))
    assert prepare() == 2
    assert "training takes one class so far" in capsys.readouterr().err


def _remove(raw):
    raw.rename(raw.with_name("elsewhere"))


def _unpair(raw):
    (raw / "masks" / "synthetic_0003.png").unlink()


def _break(raw):
    path = raw / "images" / "synthetic_0004.png"
    path.write_bytes(path.read_bytes()[:300])


def _few(raw):
    for path in raw.rglob("*.png"):
        if path.name > "synthetic_0001.png":
            path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_remove, "data/raw/synthetic: no such folder; put images/ and masks/"),
        (_unpair, "1 image without a mask: images/synthetic_0003.png"),
        (_break, "images/synthetic_0004.png: cannot be read as an image"),
        (_few, "2 distinct images (or groups) cannot fill train, validation"),
    ],
)
def test_bad_input_ends_with_one_message(workspace, capsys, harm, message):
    harm(workspace / "data" / "raw" / "synthetic")
    assert prepare() == 2
    text = capsys.readouterr().err
    assert text.startswith("error: prepare: ")
    assert message in text
    assert not (workspace / "data" / "prepared").exists()


def test_an_unknown_data_set_names_the_known(workspace, capsys):
    assert prepare("isic") == 2
    assert (
        "declares busi, cvc, glas, isic2017, isic2018, synthetic"
        in capsys.readouterr().err
    )


def test_an_empty_folder_says_what_busi_needs(workspace, capsys):
    (workspace / "data" / "raw" / "busi").mkdir()
    assert prepare("busi") == 2
    text = capsys.readouterr().err
    assert "data/raw/busi: the folder is empty; put Dataset_BUSI.zip" in text


def test_busi_from_its_archive(workspace, capsys):
    data = os.environ.get("KMUNET_TEST_DATA")
    if not data:
        pytest.skip("KMUNET_TEST_DATA names no folder with the real archives")
    raw = workspace / "data" / "raw" / "busi"
    raw.mkdir()
    (raw / "Dataset_BUSI.zip").symlink_to(Path(data) / "Dataset_BUSI.zip")
    assert prepare("busi") == 0
    packed = open_packed(workspace / "data" / "prepared" / "busi")
    assert packed.images.shape == (780, 256, 256, 3)
    assert [len(packed.indices(s)) for s in ("train", "validation", "test")] == [
        546,
        117,
        117,
    ]
    twins = {r.split for r in packed.records if r.id in TWINS}
    assert len(twins) == 1
    text = capsys.readouterr().out
    assert "benign (433) = malignant (145)" in text
    assert "pairs that show one view, kept in one split: 235, of 339 images" in text
    splits = {}
    for record in packed.records:
        if record.group is not None:
            splits.setdefault(record.group, set()).add(record.split)
    assert len(splits) > 150
    assert all(len(places) == 1 for places in splits.values())


TWINS = ("benign (433)", "malignant (145)")
