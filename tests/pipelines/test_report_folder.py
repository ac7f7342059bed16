"""Where a report may be written is known before anything is trained."""

import pytest

from kmunet.cli import main
from kmunet.errors import ConfigError
from pipelines.report_folder import report_folder


@pytest.mark.parametrize("place", ["file/report", "/proc/report", "n" * 300])
def test_a_place_that_cannot_be_written_is_refused_by_option(tmp_path, place):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"--out .*: cannot be written \(.*\): name"):
        report_folder(tmp_path / place, "report.html")


def test_it_is_there_to_be_written_and_nothing_is_left_beside_it(tmp_path):
    place = tmp_path / "reports" / "new"
    assert report_folder(place, "report.html") == place
    assert list(place.parent.iterdir()) == []
    place.mkdir()
    (place / "report.html").write_text("an earlier one")
    assert report_folder(place, "report.html") == place


def test_compare_refuses_it_before_it_looks_at_any_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "busi", "--steps", "1", "--out", "file/report"]) == 2
    assert "error: --out " in capsys.readouterr().err
