"""A prepared set appears whole or not at all, and is refused when it was changed."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from kmunet.config import parse_params
from kmunet.data.dataset import SegmentationDataset
from kmunet.data.division import write_split
from kmunet.data.integrity import check, warnings
from kmunet.data.pack import write_packed
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.sources import open_source
from kmunet.data.store import open_packed, open_prepared
from kmunet.errors import DataError
from kmunet.training import LocalReporter
from kmunet.training.batches import Batches, TrainingData
from kmunet.training.losses import LOSSES


def pack(raw, folder, sizes=(24,), **options):
    with open_source("folder", raw) as source:
        return write_packed(folder, source, sizes, **options)


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("shard_bytes", [2**28, 5 * 24 * 24 * 3, 1])
def test_rows_are_the_resized_pairs(lesions, tmp_path, shard_bytes):
    packed = pack(lesions, tmp_path / "set", (24, 17), shard_bytes=shard_bytes)
    with open_source("folder", lesions) as source:
        records = check(source)
        for row, pair in enumerate(source.pairs()):
            image, mask = pair.read()
            for size in (24, 17):
                small, small_mask = (
                    resize_image(image, size, size),
                    resize_mask(mask, size, size),
                )
                np.testing.assert_array_equal(packed.images[size][row], small)
                np.testing.assert_array_equal(packed.masks[size][row], small_mask)
    assert packed.sizes == (24, 17)
    assert list(packed.records) == records
    assert len(packed.images[24].parts) == {2**28: 1, 1: 20}.get(shard_bytes, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set"]


def test_shards_are_one_array(lesions, tmp_path):
    pack(lesions, tmp_path / "whole")
    pack(lesions, tmp_path / "cut", shard_bytes=6 * 24 * 24 * 3)
    whole, cut = (open_prepared(tmp_path / n).images[24] for n in ("whole", "cut"))
    all_rows = np.asarray(whole)
    assert (cut.shape, cut.ndim, cut.dtype) == ((20, 24, 24, 3), 4, np.uint8)
    assert [len(part) for part in cut.parts] == [6, 6, 6, 2]
    for rows in (slice(None), slice(3, 9), slice(6, 12), slice(18, 99), slice(9, 3),
                 slice(0, 20, 3), [], [19, 0, 0, 7], np.arange(20) % 3 == 0, -1,
                 np.int64(12)):  # fmt: skip
        np.testing.assert_array_equal(cut[rows], all_rows[rows])
    for row in (20, -21):
        with pytest.raises(IndexError):
            cut[row]
    for view in (cut[7], cut[6:11]):  # no copy: they are the mapped pages
        assert np.shares_memory(view, cut.parts[1])


def test_statistics_are_of_train_alone(lesions, tmp_path, rules):
    prepared = pack(lesions, tmp_path / "set", (24, 32))
    write_split(prepared, tmp_path / "split", rules(), {})
    for size in (24, 32):
        packed = open_packed(tmp_path / "set", tmp_path / "split", size)
        assert packed.size == size
        train = packed.images[packed.indices("train")] / 255.0
        np.testing.assert_allclose(packed.mean, train.mean((0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(packed.std, train.std((0, 1, 2)), atol=1e-6)
    counts = packed.division["counts"]
    assert [counts[s]["images"] for s in ("train", "validation", "test")] == [12, 4, 4]
    empty = sum(record.foreground == 0.0 for record in packed.records)
    assert sum(row["empty"] for row in counts.values()) == empty > 0


def test_a_channel_of_one_value_gives_finite_inputs_and_loss(
    tmp_path, save, rules, request
):
    for number in range(10):
        grey = np.random.default_rng(number).integers(0, 255, (24, 24))
        empty = np.zeros_like(grey)
        image = np.dstack([grey, empty + 7, empty])
        save(tmp_path / "raw" / "images" / f"{number}.png", image)
        save(tmp_path / "raw" / "masks" / f"{number}.png", (grey > 99) * 255)
    prepared = pack(tmp_path / "raw", tmp_path / "set", (16, 24))
    packed = write_split(prepared, tmp_path / "split", rules(), {})
    assert packed.std[1:] == [1.0, 1.0]
    assert 0.1 < packed.std[0] < 0.5
    note = "green and blue: the same value in all pixels of the training images"
    assert sum(text.startswith(note) for text in packed.division["notes"]) == 1
    assert note in (tmp_path / "split" / "splits.json").read_text()
    train = SegmentationDataset(packed, packed.indices("train"))
    data = TrainingData(train, train, tuple(packed.mean), tuple(packed.std))
    raw = yaml.safe_load((request.config.rootpath / "params.yaml").read_text())
    raw["train"] |= {"batch_size": 4, "loader_workers": 0}
    params = parse_params(raw).train
    batches = Batches(data, params, LocalReporter(tmp_path), torch.device("cpu"))
    image, mask = next(iter(batches.train(0)))
    assert image[:, 1:].abs().max() < 1e-5
    loss = LOSSES["bce_dice"](torch.nn.Conv2d(3, 1, 1)(image), mask)
    assert torch.isfinite(loss)


def test_indices_cover_all_rows_once(packed):
    rows = [packed.indices(s) for s in ("train", "validation", "test")]
    assert rows[0].dtype == np.int64
    assert sorted(np.concatenate(rows)) == list(range(30))
    assert all(packed.records[n].split == "test" for n in rows[2].tolist())
    with pytest.raises(DataError, match="unknown split 'val'"):
        packed.indices("val")


def test_the_same_input_gives_the_same_bytes(lesions, tmp_path):
    first = pack(lesions, tmp_path / "a", (24, 32), native=True)
    second = pack(lesions, tmp_path / "b", (24, 32), native=True)
    assert first.fingerprint == second.fingerprint
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert str(tmp_path) not in (tmp_path / "a" / "index.json").read_text()


def test_fingerprints_follow_pixels_names_splits_and_sizes(lesions, tmp_path, rules):
    first = pack(lesions, tmp_path / "a", (24, 25))
    seen = {first.fingerprint, pack(lesions, tmp_path / "b", (25,)).fingerprint}
    for place in ("images", "masks"):
        (lesions / place / "synthetic_0001.png").rename(lesions / place / "new.png")
    seen.add(pack(lesions, tmp_path / "c", (24, 25)).fingerprint)
    shutil.copy(lesions / "masks" / "new.png", lesions / "masks" / "synthetic_0000.png")
    seen.add(pack(lesions, tmp_path / "d", (24, 25)).fingerprint)
    assert len(seen) == 4
    splits = {
        write_split(first, tmp_path / f"s{seed}", rules(seed=seed), {}).fingerprint
        for seed in (1, 2)
    }
    assert len(splits) == 2
    small = open_packed(tmp_path / "a", tmp_path / "s1", 25).fingerprint
    assert small not in splits


def test_a_new_set_replaces_the_old_and_left_overs(lesions, tmp_path):
    pack(lesions, tmp_path / "set")
    (tmp_path / ".set.partial").mkdir()
    (tmp_path / ".set.partial" / "images.npy").write_bytes(b"cut")
    assert pack(lesions, tmp_path / "set", (20,)).sizes == (20,)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set"]
    assert not (tmp_path / "set" / "24").exists()


def test_it_is_pickled_by_its_folders(packed, monkeypatch, tmp_path):
    data = pickle.dumps(packed)
    assert len(data) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert list(again.records) == list(packed.records)
    assert again.fingerprint == packed.fingerprint
    np.testing.assert_array_equal(again.images[3], packed.images[3])


MAPPED = """
import pickle, re, sys
packed = pickle.load(sys.stdin.buffer)
total = int(packed.images[:].sum()) + int(packed.images.parts[0].sum())
text = open("/proc/self/smaps").read()
part = text[text.index("images-00000.npy"):]
print(total, *re.findall(r"(?:Rss|Anonymous): +([0-9]+) kB", part)[:2])
"""


def test_processes_read_the_same_pages(lesions, tmp_path, rules):
    """Spawned readers map the file: none of its pages is their own copy."""
    prepared = pack(lesions, tmp_path / "set", (256,))
    packed = write_split(prepared, tmp_path / "split", rules(), {})
    data = pickle.dumps(packed)
    found = [
        subprocess.run([sys.executable, "-c", MAPPED], input=data, capture_output=True,
                       check=True).stdout.split() for _ in range(2)
    ]  # fmt: skip
    total = int(packed.images[:].sum()) * 2
    for line in found:
        assert int(line[0]) == total
        resident, anonymous = map(int, line[1:])
        assert resident >= 20 * 256 * 256 * 3 // 1024
        assert anonymous == 0


def test_a_split_of_other_data_is_refused(lesions, tmp_path, rules):
    write_split(pack(lesions, tmp_path / "set"), tmp_path / "split", rules(), {})
    packed = open_packed(tmp_path / "set", tmp_path / "split")
    with pytest.raises(DataError, match=r"train\.size: 99 is none of .*24; choose"):
        open_packed(tmp_path / "set", tmp_path / "split", 99)
    places = packed.places.copy()
    places[0] ^= 1
    np.save(tmp_path / "split" / "places.npy", places)
    with pytest.raises(DataError, match="differ; run the split stage again"):
        open_packed(tmp_path / "set", tmp_path / "split")
    pack(lesions, tmp_path / "set", (25,))
    with pytest.raises(DataError, match=r"of other data than .* run the split stage"):
        open_packed(tmp_path / "set", tmp_path / "split")
    shutil.rmtree(tmp_path / "split")
    with pytest.raises(DataError, match=r"split\.json: no such file; run the split"):
        open_packed(tmp_path / "set", tmp_path / "split")


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
        "almost black images (brightest value below 32 of 255; 10 or 12 bits in a file"
        " of 16 must be scaled up): 1, dot",
        "the same pixels under several ids, kept in one split: 1, empty = full",
    ]
    packed = pack(tmp_path / "raw", tmp_path / "set", (8, 64))
    assert packed.header["warnings"][:5] == notes
    assert packed.header["warnings"][-1] == "lesions that vanish at 8x8 pixels: 1"
    kinds = [link.kind for link in packed.links()]
    assert kinds.count("exact") == 1
