"""What a user gets wrong: one message that names it, and nothing half-done."""

import zipfile

import numpy as np
import pytest
from PIL import Image


def _refused(checkout, done, *words):
    both = done.stdout + done.stderr
    assert done.returncode not in (0, None)
    assert "Traceback" not in both
    assert "pipelines.train" not in both  # it ended before training
    for word in words:
        assert word in both
    assert checkout.git("status", "--porcelain") == ""
    assert not list(checkout.root.glob("runs/*/busi/*"))
    assert not list(checkout.root.glob(".kmunet/workspaces/*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "kvasir"), ("kvasir", "busi", "synthetic")),
        (("--set", "train.learning_rate=1"), ("train.learning_rate", "unknown")),
        (("--set", "train.lr=-1"), ("train.lr", "greater than 0")),
        (("--set", "nonsense"), ("nonsense",)),
        (("--raw", "busi=/no/such/Dataset_BUSI.zip", "--dataset", "busi"),
         ("/no/such/Dataset_BUSI.zip",)),
        (("--dataset", "busi"), ("data/raw/busi", "--raw busi=PATH")),
        (("--set", "train.device=cuda"), ("train.device", "no GPU")),
    ],
    ids=lambda value: "_".join(value)[:40] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_arguments(checkout, first_run, arguments, words):
    if "cuda" in str(arguments):
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
        done = checkout.flow(*arguments)
        assert done.returncode != 0
        assert all(word in done.stdout + done.stderr for word in words)
        assert "Traceback" not in done.stdout + done.stderr
        return
    _refused(checkout, checkout.flow(*arguments), *words)


def test_an_archive_of_another_data_set(checkout, first_run, tmp_path):
    archive = tmp_path / "CVC-ClinicDB.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("CVC-ClinicDB/Original/1.tif", b"x")
    done = checkout.flow("--dataset", "busi", "--raw", f"busi={archive}")
    _refused(checkout, done, "CVC-ClinicDB.zip", "benign")


def test_an_image_without_its_mask_is_named(checkout, first_run, tmp_path):
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    for number in range(6):
        noise = np.full((20, 20), number * 9, np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"case_{number}.png")
    done = checkout.flow("--dataset", "synthetic", "--raw", f"synthetic={tmp_path}")
    both = done.stdout + done.stderr
    assert done.returncode != 0
    assert "case_0" in both
    assert "Traceback" not in both
