"""Stage synthesize, as DVC calls it."""

import shutil
from pathlib import Path

import yaml

from pipelines import synthesize

ROOT = Path(__file__).parents[2]


def test_it_writes_what_params_declare(tmp_path, monkeypatch, capsys):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["synthesize"] = {"images": 4, "size": 32, "seed": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    assert synthesize.main() == 0
    raw = tmp_path / "data" / "raw" / "synthetic"
    assert len(list((raw / "images").iterdir())) == 4
    assert len(list((raw / "masks").iterdir())) == 4
    assert capsys.readouterr().out == "4 images and masks of 32x32 pixels\n"


def test_a_wrong_value_is_named_and_nothing_written(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("images: 240", "images: 0"))
    monkeypatch.chdir(tmp_path)
    assert synthesize.main() == 2
    assert "synthesize.images" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
