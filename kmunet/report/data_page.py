"""report.html and report.json of a data check, from plain tables: read offline."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kmunet.report.page import environment
from kmunet.report.tables import write_csv

COLUMNS = (
    "id", "image", "category", "split", "group", "width", "height", "colour",
    "foreground", "low", "high", "sha256",
)  # fmt: skip
Row = Mapping[str, Any]


def write_data_report(
    folder: Path, tables: Mapping[str, Any], sheets: Mapping[str, Sequence[str]]
) -> Path:
    """Write report.html, report.json and images.csv into `folder`; return the page.

    `tables` as kmunet.data.survey gives them; `sheets`: file names below `folder` by
    the kind of finding that they show.
    """
    text = json.dumps(tables, indent=1, sort_keys=True, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    write_csv(folder / "images.csv", COLUMNS, tables["images"])
    links = {kind: [quote(file) for file in files] for kind, files in sheets.items()}
    page = folder / "report.html"
    html = environment().get_template("data.html.j2").render(data=tables, sheets=links)
    page.write_text(html, encoding="utf-8", newline="\n")
    return page
