"""The command as a whole: what joins it, and what cannot."""

from importlib.metadata import EntryPoint

import pytest

from kmunet import cli


def test_commands_from_above_the_library_are_there(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(n in shown for n in ("data", "bench", "compare", "lineage", "verify"))


def test_one_that_cannot_be_imported_says_so_and_leaves_the_others(monkeypatch, capsys):
    broken = EntryPoint("broken", "kmunet.nowhere", "kmunet.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    assert cli.main(["broken"]) == 2
    error = capsys.readouterr().err
    assert "No module named 'kmunet.nowhere'" in error
    assert "make install" in error
    with pytest.raises(SystemExit, match="0"):
        cli.main(["data", "check", "--help"])
