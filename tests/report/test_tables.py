"""CSV and JSON as others read them: columns, digits, empty fields, brackets."""

import csv
import json
import math

from kmunet.report.tables import histogram, write_csv, write_metrics, write_tables


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_per_image_table(tmp_path, table):
    write_tables(tmp_path, table, [])
    rows = read(tmp_path / "per_image.csv")
    assert [row["id"] for row in rows] == [row["id"] for row in table]
    assert rows[0]["category"] == "benign"
    for row, expected in zip(rows, table, strict=True):
        assert math.isclose(float(row["iou"]), expected["iou"], abs_tol=1e-6)
        assert (row["hd95"] == "") == math.isnan(expected["hd95"])


def test_curves_have_the_columns_that_are_plotted(tmp_path, make_report):
    report = make_report()
    write_tables(tmp_path, report.table, report.history)
    rows = read(tmp_path / "curves.csv")
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_iou"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[2]["val_iou"] == "0.666667"


def test_histogram_counts_every_image_once(table):
    bins = histogram(table)
    assert len(bins) == 10
    assert sum(row["images"] for row in bins) == len(table)
    perfect = sum(row["iou"] >= 0.9 for row in table)
    assert bins[-1] == {"iou": "0.9 to 1.0", "images": perfect}
    assert histogram([{"iou": 0.3}])[3]["images"] == 1


def test_line_ends_and_quotes(tmp_path):
    write_csv(tmp_path / "x.csv", ("id", "x"), [{"id": 'a, "b"', "x": None}])
    assert (tmp_path / "x.csv").read_bytes() == b'id,x\n"a, ""b""",\n'


def test_metrics_are_sorted_and_rounded(tmp_path):
    path = tmp_path / "deep" / "metrics.json"
    write_metrics(path, {"b": {"y": 1 / 3, "x": 2}, "a": None})
    assert path.read_text() == (
        '{\n  "a": null,\n  "b": {\n    "x": 2,\n    "y": 0.333333\n  }\n}\n'
    )
    assert json.loads(path.read_text())["b"]["y"] == 0.333333
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]
