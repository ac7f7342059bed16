"""`kmunet data augment`, as it is called: the picture, and what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmunet.cli import main
from kmunet.config import load_params
from kmunet.data.resize import resize_image
from kmunet.data.synthetic import write_synthetic
from kmunet.data.transforms import build_transform

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_synthetic(tmp_path / "raw", images=5, size=64, seed=3)
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def augment(*extra):
    sizes = ("--size", "224", "--samples", "3", "--epochs", "2")
    command = ["data", "augment", "folder", "raw", "--out", "out/sheet.png"]
    return main([*command, *sizes, *extra])


def test_the_sheet_shows_what_training_sees(place, capsys):
    assert augment("--preset", "paper") == 0
    assert "3 images, 2 epochs each: out/sheet.png" in capsys.readouterr().out
    sheet = np.array(Image.open("out/sheet.png"))
    assert sheet.shape == (3 * 254, 3 * 228, 3)
    params = load_params(PARAMS)
    raw = Image.open("raw/images/synthetic_0002.png").convert("RGB")
    image = resize_image(np.array(raw), 224, 224)
    transform = build_transform(params.presets["paper"], params.train.seed)
    seen, _ = transform(image, image[:, :, 0], epoch=1, image_id="synthetic_0002")
    tile = sheet[254 + 26 : 254 + 26 + 224, 2 * 228 : 2 * 228 + 224]
    assert (tile == seen).all(axis=2).mean() > 0.9  # all but the outline


def test_the_same_call_gives_the_same_bytes(place):
    augment("--preset", "dermoscopy")
    first = Path("out/sheet.png").read_bytes()
    augment("--preset", "dermoscopy")
    assert Path("out/sheet.png").read_bytes() == first
    augment("--preset", "dermoscopy", "--seed", "5")
    assert Path("out/sheet.png").read_bytes() != first


def test_without_a_name_it_is_the_preset_in_use_and_one_can_be_none(place):
    assert augment() == 0
    assert augment("--preset", "none") == 0
    sheet = np.array(Image.open("out/sheet.png"))
    assert (sheet[26:250, :224] == sheet[26:250, 228:452]).all()


def test_no_pair_at_all_says_what_was_found(place, capsys):
    shutil.rmtree("raw/masks")
    Path("raw/masks").mkdir()
    shutil.copy("raw/images/synthetic_0000.png", "raw/masks/other.png")
    assert augment() == 2
    assert "5 images without a mask" in capsys.readouterr().err


def test_a_url_may_stand_where_a_path_may(place):
    url = f"file://{place}/raw/"
    command = ["data", "augment", "folder", url, "--cache", "kept", "--out", "s.png"]
    assert main([*command, "--samples", "2", "--epochs", "1"]) == 0
    assert len(list(Path("kept").rglob("synthetic_*.png"))) == 10


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--preset", "sonar"), "--preset sonar: params.yaml declares dermoscopy, "),
        (("--params", "no.yaml"), "no.yaml: no such file"),
        (("--out", "sheet.jpg"), "name it sheet.png"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(place, capsys, extra, message):
    assert augment(*extra) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_argument_names_its_key(place, capsys):
    text = PARAMS.read_text().replace("gamma_limit: [75", "gamma_limits: [75")
    Path("mine.yaml").write_text(text)
    assert augment("--params", "mine.yaml", "--preset", "ultrasound") == 2
    assert "presets.ultrasound.3.args: RandomGamma: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "pattern", "preset"),
    [
        ("busi", "Dataset_BUSI.zip", "ultrasound"),
        ("cvc", "CVC-ClinicDB.zip", "endoscopy"),
        ("glas", "warwick*.zip", "histology"),
    ],
)
def test_real_data(place, kind, pattern, preset):
    folder = os.environ.get("KMUNET_TEST_DATA")
    if not folder:
        pytest.skip("KMUNET_TEST_DATA names no folder with the real archives")
    (path,) = Path(folder).glob(pattern)
    command = ["data", "augment", kind, str(path), "--preset", preset]
    assert main([*command, "--samples", "2", "--epochs", "1", "--out", "s.png"]) == 0
