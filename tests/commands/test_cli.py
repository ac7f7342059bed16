"""The command as a whole: what joins it, and what cannot."""

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kmunet import cli
from kmunet.data.synthetic import write_synthetic

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_commands_from_above_the_library_are_there(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(n in shown for n in ("data", "bench", "compare", "lineage", "verify"))


def test_a_user_without_a_home_is_asked_for_one_when_needed(
    monkeypatch, tmp_path, capsys
):
    """As in a container that runs under a number that it does not know."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "check", "busi", "file:///a.zip", "--out", "x"]) == 2
    assert "this user has no home; set HOME" in capsys.readouterr().err


def test_one_that_cannot_be_imported_says_so_and_leaves_the_others(monkeypatch, capsys):
    broken = EntryPoint("broken", "kmunet.nowhere", "kmunet.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    assert cli.main(["broken"]) == 2
    error = capsys.readouterr().err
    assert "No module named 'kmunet.nowhere'" in error
    assert "make install" in error
    with pytest.raises(SystemExit, match="0"):
        cli.main(["data", "check", "--help"])


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    write_synthetic(tmp_path / "raw", images=2, size=64, seed=3)
    (tmp_path / "taken").write_text("no folder")
    out = tmp_path / "taken" / "sheet.png"
    command = ["data", "augment", "folder", str(tmp_path / "raw"), "--out", str(out)]
    assert cli.main([*command, "--params", str(PARAMS)]) == 2
    assert capsys.readouterr().err == f"error: {out.parent}: File exists\n"


def test_a_reader_that_has_left_is_no_error_of_a_file(monkeypatch, capsys):
    def leave(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli.data_get, "run", leave)
    with pytest.raises(BrokenPipeError):
        cli.main(["data", "get", "https://host/a.zip", "--out", "a"])
    assert capsys.readouterr().err == ""
