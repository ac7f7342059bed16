"""A training's history beside a published log: the same epochs, and how far apart."""

import json
from pathlib import Path

import pytest

from benchmarks import author_curves

HISTORY = """epoch,train_loss,val_loss,val_iou
1,1.0,1.1,0.0
2,0.8,0.9,0.25
"""
LOG = """dataset,epoch,train_loss,train_iou,val_loss,val_iou,val_dice
cvc,0,9.0,9.0,9.0,9.0,9.0
busi,0,0.9,0.2,1.1,0.0,0.0
busi,1,0.5,0.4,1.0,0.5,0.6
busi,2,0.4,0.4,1.0,0.5,0.6
"""


@pytest.fixture
def files(tmp_path):
    history, log = tmp_path / "history.csv", tmp_path / "log.csv"
    history.write_text(HISTORY)
    log.write_text(LOG)
    return [str(history), str(log), str(tmp_path / "curves.json")]


def test_epochs_are_matched_and_their_distance_told(files, capsys):
    history, log, out = files
    author_curves.main([history, "busi", log, "--out", out])
    found = json.loads(Path(out).read_text())
    assert found["epochs"] == 2  # the log has a third
    assert found["train_loss"] == {"ours": [1.0, 0.8], "published": [0.9, 0.5]}
    gaps = found["mean_difference"]
    assert gaps == pytest.approx(
        {"train_loss": 0.2, "val_loss": 0.05, "val_iou": 0.125}
    )
    assert "0.8000 /  0.5000" in capsys.readouterr().out
    picture = Path(out).with_suffix(".png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_data_set_that_the_log_lacks_is_named(files, capsys):
    history, log, out = files
    with pytest.raises(SystemExit):
        author_curves.main([history, "glas", log, "--out", out])
    assert "'glas'" in capsys.readouterr().err


def test_a_history_without_a_column_is_told_by_name(files, capsys):
    history, log, out = files
    Path(history).write_text("epoch,train_loss,val_iou\n1,1.0,0.0\n")
    with pytest.raises(SystemExit):
        author_curves.main([history, "busi", log, "--out", out])
    assert "no column val_loss" in capsys.readouterr().err
