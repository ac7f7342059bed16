"""A packed set appears whole or not at all, and is refused when it was changed."""

import json
import pickle
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from kmunet.data import atomic
from kmunet.data.integrity import check, warnings
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.sources import open_source
from kmunet.data.store import open_packed, write_packed
from kmunet.errors import DataError


def pack(raw, folder, size=24, examples=None, **about):
    with open_source("folder", raw) as source:
        records = [
            replace(r, split=["train", "validation", "test"][n % 3])
            for n, r in enumerate(check(source))
        ]
        return write_packed(folder, examples or source.pairs(), records, size, about)


def test_rows_are_the_resized_pairs(lesions, tmp_path):
    packed = pack(lesions, tmp_path / "set")
    with open_source("folder", lesions) as source:
        for row, pair in enumerate(source.pairs()):
            image, mask = pair.read()
            assert packed.records[row].id == pair.id
            np.testing.assert_array_equal(
                packed.images[row], resize_image(image, 24, 24)
            )
            np.testing.assert_array_equal(packed.masks[row], resize_mask(mask, 24, 24))
    assert isinstance(packed.images, np.memmap)
    assert set(np.unique(packed.masks)) == {0, 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set"]


def test_statistics_are_of_train_alone(lesions, tmp_path):
    packed = pack(lesions, tmp_path / "set")
    train = packed.images[packed.indices("train")] / 255.0
    np.testing.assert_allclose(
        packed.manifest["mean"], train.mean((0, 1, 2)), atol=1e-6
    )
    np.testing.assert_allclose(packed.manifest["std"], train.std((0, 1, 2)), atol=1e-6)
    counts = packed.manifest["counts"]
    assert [counts[s]["images"] for s in ("train", "validation", "test")] == [7, 7, 6]
    empty = sum(record.foreground == 0.0 for record in packed.records)
    assert sum(row["empty"] for row in counts.values()) == empty > 0


def test_indices_cover_all_rows_once(packed):
    rows = [packed.indices(s) for s in ("train", "validation", "test")]
    assert rows[0].dtype == np.int64
    assert sorted(np.concatenate(rows)) == list(range(30))
    with pytest.raises(DataError, match="unknown split 'val'"):
        packed.indices("val")


def test_the_same_input_gives_the_same_bytes(lesions, tmp_path):
    first = pack(lesions, tmp_path / "a")
    second = pack(lesions, tmp_path / "b")
    assert first.fingerprint == second.fingerprint
    for name in ("images.npy", "masks.npy", "manifest.json"):
        a, b = (tmp_path / f / name for f in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_the_fingerprint_follows_pixels_and_splits(lesions, tmp_path):
    first = pack(lesions, tmp_path / "a").fingerprint
    assert pack(lesions, tmp_path / "b", size=25).fingerprint != first
    assert pack(lesions, tmp_path / "c", split={"seed": 1}).fingerprint != first
    masks = lesions / "masks"
    shutil.copy(masks / "synthetic_0001.png", masks / "synthetic_0000.png")
    assert pack(lesions, tmp_path / "d").fingerprint != first


class _Interrupted:
    def read(self):
        raise KeyboardInterrupt


class _FullDisk:
    def read(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("example", "error"), [(_Interrupted, KeyboardInterrupt), (_FullDisk, OSError)]
)
def test_nothing_half_written_stays(lesions, tmp_path, example, error):
    target = tmp_path / "out" / "set"
    with pytest.raises(error):
        pack(lesions, target, examples=[example()] * 20)
    assert list(target.parent.iterdir()) == []
    before = pack(lesions, target).fingerprint
    with pytest.raises(error):
        pack(lesions, target, size=20, examples=[example()] * 20)
    assert open_packed(target).fingerprint == before
    assert [path.name for path in target.parent.iterdir()] == ["set"]


def test_a_new_set_replaces_the_old_and_left_overs(lesions, tmp_path):
    pack(lesions, tmp_path / "set")
    (tmp_path / ".set.partial").mkdir()
    (tmp_path / ".set.partial" / "images.npy").write_bytes(b"cut")
    assert pack(lesions, tmp_path / "set", size=20).size == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set"]


def test_space_is_asked_for_before_writing(lesions, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage(10**6))
    with pytest.raises(DataError, match=r"set: needs 1 MB but 1 MB are free.*size"):
        pack(lesions, tmp_path / "out" / "set")
    assert not (tmp_path / "out").exists()


def test_it_is_pickled_by_its_folder(packed, monkeypatch, tmp_path):
    data = pickle.dumps(packed)
    assert len(data) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert again.records == packed.records
    assert isinstance(again.images, np.memmap)


def _drop(folder):
    (folder / "masks.npy").unlink()


def _cut(folder):
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])


def _swap(folder):
    shutil.copy(folder / "masks.npy", folder / "images.npy")


def _forget(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["records"].pop()
    path.write_text(json.dumps(manifest))


def _scribble(folder):
    (folder / "manifest.json").write_text("{")


def _objects(folder):
    np.save(folder / "masks.npy", np.array([{}]), allow_pickle=True)


@pytest.mark.parametrize("harm", [_drop, _cut, _swap, _forget, _scribble, _objects])
def test_a_damaged_set_is_refused(lesions, tmp_path, harm):
    pack(lesions, tmp_path / "set")
    harm(tmp_path / "set")
    with pytest.raises(DataError, match="run the prepare stage again"):
        open_packed(tmp_path / "set")


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone/manifest\.json: no such file; run"):
        open_packed(tmp_path / "gone")


def test_warnings_count_and_name(tmp_path, save):
    image = np.random.default_rng(0).integers(40, 200, (64, 64), np.uint8)
    masks = {"empty": image * 0, "full": image * 0 + 255, "dot": image * 0}
    masks["grey"] = np.clip(image, 100, 255)
    masks["dot"][10, 10] = 255
    for name, mask in masks.items():
        pixels = image // 8 if name == "dot" else image + (name == "grey")
        save(tmp_path / "raw" / "images" / f"{name}.png", pixels)
        save(tmp_path / "raw" / "masks" / f"{name}.png", mask)
    with open_source("folder", tmp_path / "raw") as source:
        notes = warnings(check(source))
    assert notes == [
        "empty masks (no lesion): 1, empty",
        "masks that cover the whole image: 1, full",
        "masks with grey edges, cut at half of the full value: 1, grey",
        "almost black images (brightest value below 32 of 255): 1, dot",
        "the same pixels under several ids, kept in one split: 1, empty = full",
    ]
    packed = pack(tmp_path / "raw", tmp_path / "set", size=8, warnings=notes)
    assert packed.manifest["warnings"][-1] == "lesions that vanish at 8x8 pixels: 1"
