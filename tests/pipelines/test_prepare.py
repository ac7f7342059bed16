"""Stage prepare, as DVC calls it: in a workspace, with its exit code and message."""

import os
import time
from pathlib import Path

import pytest
import yaml

from kmunet.data.store import open_packed, open_prepared
from kmunet.data.synthetic import write_synthetic
from pipelines import split
from pipelines.prepare import run
from pipelines.stage import stage_main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["sources"]["synthetic"]["sizes"] = [32, 48]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    write_synthetic(tmp_path / "data" / "raw" / "synthetic", 24, 40, seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(dataset="synthetic"):
    return stage_main("prepare", run, ["--dataset", dataset])


def _set(workspace, section, **changes):
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section].update(changes)
    path.write_text(yaml.safe_dump(params))


def test_it_packs_at_every_size_and_says_so(workspace, capsys):
    assert prepare() == 0
    packed = open_prepared(workspace / "data" / "prepared" / "synthetic")
    assert packed.images[32].shape == (24, 32, 32, 3)
    assert packed.images[48].shape == (24, 48, 48, 3)
    assert packed.native(0)[0].shape == (40, 40, 3)
    assert packed.header["source"] == "folder"
    lines = capsys.readouterr().out.splitlines()
    at = "at 32x32, 48x48 pixels and at their own size"
    assert lines[0] == f"24 images and masks {at}"
    assert lines[1].startswith("note: empty masks (no lesion): ")
    assert str(workspace) not in (packed.folder / "index.json").read_text()
    _set(workspace, "prepare", native=False)
    assert prepare() == 0
    assert not (workspace / "data" / "prepared" / "synthetic" / "native").exists()


def test_a_rerun_gives_the_same_bytes(workspace):
    folder = workspace / "data" / "prepared" / "synthetic"

    def contents():
        files = (path for path in folder.rglob("*") if path.is_file())
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in files
        }

    prepare()
    first = contents()
    raw = workspace / "data" / "raw" / "synthetic"
    for path in raw.rglob("*.png"):  # time stamps must not matter
        os.utime(path, (time.time() - 1000,) * 2)
    prepare()
    assert contents() == first
    assert sorted(first) == [
        "32/images-00000.npy", "32/masks-00000.npy",
        "48/images-00000.npy", "48/masks-00000.npy",
        "groups.bin", "groups.npy", "ids.bin", "ids.npy", "index.json", "index.npy",
        "links.npy", "native/pairs-00000.bin",
    ]  # fmt: skip


def test_a_size_to_train_at_that_is_not_prepared_is_refused_first(workspace, capsys):
    _set(workspace, "train", size=64)
    assert prepare() == 2
    text = capsys.readouterr().err
    assert "train.size: 64 is none of sources.synthetic.sizes: 32, 48" in text
    assert not (workspace / "data" / "prepared").exists()


def _remove(raw):
    raw.rename(raw.with_name("elsewhere"))


def _unpair(raw):
    (raw / "masks" / "synthetic_0003.png").unlink()


def _break(raw):
    path = raw / "images" / "synthetic_0004.png"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_remove, "data/raw/synthetic: no such folder; put images/ and masks/"),
        (_unpair, "1 image without a mask: images/synthetic_0003.png"),
        (_break, "images/synthetic_0004.png: cannot be read as an image"),
    ],
)
def test_bad_input_ends_with_one_message(workspace, capsys, harm, message):
    harm(workspace / "data" / "raw" / "synthetic")
    assert prepare() == 2
    text = capsys.readouterr().err
    assert text.startswith("error: prepare: ")
    assert message in text
    prepared = workspace / "data" / "prepared"
    assert not prepared.exists() or not list(prepared.iterdir())


def test_all_problems_are_told_at_once_in_their_order(workspace, capsys):
    raw = workspace / "data" / "raw" / "synthetic"
    _break(raw)
    _unpair(raw)
    (raw / "masks" / "synthetic_0009.png").write_bytes(b"")
    assert prepare() == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("data/raw/synthetic: 3 problems")
    assert [line.strip().split(":")[0] for line in lines[1:]] == [
        "1 image without a mask",
        "images/synthetic_0004.png",
        "masks/synthetic_0009.png",
    ]


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
    assert stage_main("split", split.run, ["--dataset", "busi"]) == 0
    folders = (workspace / "data" / kind / "busi" for kind in ("prepared", "splits"))
    packed = open_packed(*folders)
    assert packed.images.shape == (780, 256, 256, 3)
    assert [len(packed.indices(s)) for s in ("train", "validation", "test")] == [
        546,
        117,
        117,
    ]
    links = packed.prepared.links()
    assert len(links) == 236
    assert all(packed.places[link.a] == packed.places[link.b] for link in links)
    text = capsys.readouterr().out
    assert "benign (433) = malignant (145)" in text
    assert "pairs that show one view, kept in one split: 235, of 339 images" in text
