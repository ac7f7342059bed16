"""Every store gives back what was put in; figures are there for each."""

import json

import numpy as np
import pytest

from benchmarks import store
from benchmarks.store_images import Turned
from benchmarks.store_readers import read_rows
from benchmarks.stores import Files, Packed, stores


@pytest.fixture
def examples():
    """Twenty pairs out of six, smooth enough for JPEG."""
    y, x = np.mgrid[:32, :32]
    images = [np.stack([4 * x + i, 5 * y, x + y + 9 * i], -1) for i in range(6)]
    masks = [(x - 10 - i) ** 2 + (y - 16) ** 2 < 60 for i in range(6)]
    return Turned(np.array(images, np.uint8), np.array(masks, np.uint8), 20)


# WebDataset leaves closing its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def peers():
    for name in ("lmdb", "webdataset", "zarr"):
        pytest.importorskip(name)


def test_orientations_are_eight_different_ones(examples):
    few = Turned(examples.images[:1], examples.masks[:1], 8)
    assert len({few[row][0].tobytes() for row in range(8)}) == 8
    assert all(few[row][0].shape == (32, 32, 3) for row in range(8))


@pytest.mark.usefixtures("peers")
def test_all_give_the_same_pixels_and_have_figures(examples, tmp_path):
    kinds = stores()
    found = store.compare(
        examples, kinds, tmp_path, processes=[1, 2], reads=10, repeats=1
    )
    assert list(found) == [kind.name for kind in kinds]
    for kind in kinds:
        row = found[kind.name]
        assert (row["pixels"] == "equal") is not kind.lossy
        assert row["bytes_on_disk"] > 0
        for key in ("warm, 1 reader", "warm, 2 readers"):
            assert row[key]["images_per_second"] > 0
            assert row[key]["cpu_us_per_image"] > 0


def test_wrong_pixels_are_noticed(examples, tmp_path):
    Packed().write(tmp_path, examples)
    images = np.load(tmp_path / "32/images-00000.npy", mmap_mode="r+")
    images[7, 3, 3, 0] ^= 1
    images.flush()
    with pytest.raises(RuntimeError, match="images are not what was stored"):
        store.check(Packed(), tmp_path, examples)


def test_a_reader_that_fails_says_why(examples, tmp_path):
    Files(".png").write(tmp_path, examples)
    (tmp_path / "000003_mask.png").unlink()
    with pytest.raises(RuntimeError, match=r"PNG files: FileNotFoundError.*000003"):
        read_rows(Files(".png"), tmp_path, 20, 200, 1, seed=0)


@pytest.mark.usefixtures("peers")
def test_the_command_on_real_images(real_data, tmp_path, capsys):
    out = tmp_path / "store.json"
    few = ["--images", "20", "--size", "64", "--reads", "10", "--repeats", "1"]
    work = ["--work", str(tmp_path / "work"), "--readers", "1"]
    assert store.main([str(real_data), *few, *work, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["real_images"] == 20
    assert len(result["stores"]) == 7
    assert "WebDataset" in capsys.readouterr().out


def test_missing_archives_are_a_line(tmp_path, capsys):
    assert store.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
