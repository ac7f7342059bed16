"""The table of faults in docs/operations.md is what the tests recorded, no more."""

import table
from record import record


def test_the_page_has_what_was_measured():
    rows = table.newest(table.ROWS.read_text("utf-8").splitlines())
    assert table.table(rows) in table.DOCS.read_text("utf-8")


def test_a_row_that_is_measured_again_replaces_the_former(tmp_path, monkeypatch):
    monkeypatch.setenv("KMUNET_FAULTS_TABLE", str(tmp_path / "rows.jsonl"))
    for seconds in (9.4, 3.2):
        record("a disk full", "said", "all", seconds)
    record("a worker killed", "resumed", "most", 1)
    rows = table.newest((tmp_path / "rows.jsonl").read_text().splitlines())
    assert [(row["fault"], row["seconds"]) for row in rows] == [
        ("a disk full", 3.2),
        ("a worker killed", 1.0),
    ]
    page = table.placed(f"a\n{table.BEGIN}old\n{table.END}b\n", table.table(rows))
    assert "| a disk full | said | all | 3 |" in page
    assert "old" not in page
    assert page.startswith("a\n")
    assert page.endswith("b\n")
