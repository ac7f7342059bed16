"""`kmunet data check SOURCE PATH... --out DIR`: is this data set fit to be used?

Writes report.html, report.json, images.csv and contact sheets. Exit code 1 where there
are errors, 2 where the paths hold no such data set. A URL (s3://, https://, ...) is
downloaded first.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmunet.class_names import check_class_names
from kmunet.data.pairs import Pair, Source
from kmunet.data.remote import is_url, localize
from kmunet.data.sources import KINDS, open_source
from kmunet.data.survey import Survey, as_tables, survey
from kmunet.errors import ConfigError, DataError, SourceError
from kmunet.report.data_page import write_data_report
from kmunet.report.sheets import Tile, write_sheet

SHOWN = 24  # images of one kind of finding
PAIRS = 60  # on a sheet of duplicates
SHEETS = 8
_SMALL = 256  # pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("source", choices=KINDS, metavar="SOURCE", help=", ".join(KINDS))
    add("path", nargs="+", metavar="PATH", help="archives or folders, or their URLs")
    where = "where report.html and report.json go"
    add("--out", required=True, type=Path, metavar="DIR", help=where)
    kept = "where what URLs name is downloaded to, once; default: ~/.cache/kmunet"
    add("--cache", type=Path, metavar="DIR", help=kept)
    names = "busi: folders to read; folder, manifest: what mask values 1, 2, ... mean"
    add("--classes", nargs="+", metavar="NAME", help=names)
    values = "mask value of each class, if not 1, 2, ...: a number or #rrggbb"
    add("--values", nargs="+", metavar="VALUE", help=values)


def run(arguments: argparse.Namespace) -> int:
    """Check and write the report; the exit code. Raises KMUNetError for arguments."""
    check_class_names(arguments.classes or ())
    _refuse_inside(arguments.out, arguments.path)
    out = _folder(arguments.out)
    try:
        paths = [localize(place, arguments.cache) for place in arguments.path]
        source = open_source(
            arguments.source, paths, arguments.classes, arguments.values
        )
    except SourceError as error:
        write_data_report(out, _nothing(arguments.source, str(error)), {})
        raise
    with source:
        result = survey(source, out)
        tables = as_tables(source, result)
        sheets = _write_sheets(out, source, result)
    page = write_data_report(out, tables, sheets)
    print(_summary(tables, page))
    for item in tables["errors"][:10]:
        print(f"error: {item['message']}", file=sys.stderr)
    return 1 if tables["errors"] else 0


def _refuse_inside(out: Path, places: Sequence[str]) -> None:
    """The report has tables and pictures, which the next check would take for data."""
    for place in places:
        if out.resolve().is_relative_to(Path(place).resolve()) and not is_url(place):
            raise ConfigError(
                f"--out {out}: lies in {place}, and would be read as data by the next "
                "check; name a folder beside it"
            )


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot be made ({error.strerror}): name a folder"
        ) from None
    return out


def _summary(tables: dict[str, Any], page: Path) -> str:
    lines = [
        f"{tables['pairs']} pairs, {len(tables['errors'])} errors, "
        f"{len(tables['duplicates'])} duplicate pairs "
        f"({len(tables['conflicts'])} in conflict), {len(tables['groups'])} groups"
    ]
    for item in tables["warnings"]:
        count = f"{item['count']} images: " if item["count"] else ""
        lines.append(f"warning: {item['kind']}: {count}{item['message']}")
    return "\n".join([*lines, f"report: {page}"])


def _nothing(kind: str, message: str) -> dict[str, Any]:
    """The tables where there is no data set to look at."""
    lists = ("warnings", "duplicates", "conflicts", "groups", "images", "classes")
    errors = [{"kind": "source", "message": message, "ids": []}]
    return {"source": kind, "about": None, "pairs": 0, "errors": errors,
            "fingerprint": {}, **{name: [] for name in lists}}  # fmt: skip


def _write_sheets(out: Path, source: Source, result: Survey) -> dict[str, list[str]]:
    folder = out / "sheets"
    folder.mkdir(exist_ok=True)
    pairs = {pair.id: pair for pair in source.matched}
    wanted = {item.kind: item.ids for item in result.warnings if item.ids}
    faulty = [item for item in result.errors if item.kind != "leak"]
    wanted["errors"] = tuple(name for item in faulty for name in item.ids)
    for kind in ("duplicates", "conflicts", "leak"):
        wanted.pop(kind, None)
    written: dict[str, list[str]] = {}
    for kind, ids in wanted.items():
        tiles = [tile for name in ids[:SHOWN] if (tile := _tile(pairs[name]))]
        if tiles:
            file = f"sheets/{kind.replace(' ', '_')}.png"
            write_sheet(out / file, tiles, side=_SMALL, columns=4)
            written[kind] = [file]
    written["duplicates"] = _write_duplicates(out, result)
    return written


def _tile(pair: Pair) -> Tile | None:
    """The pair as far as it can be read."""
    try:
        image, mask = pair.read()
    except DataError:
        try:
            image = pair.read_image()
        except DataError:
            return None
        mask = image[:, :, 0] * 0
    return Tile(pair.id, [image], [mask])


def _write_duplicates(out: Path, result: Survey) -> list[str]:
    """Conflicts first, then the least alike: what a person should look at first."""
    apart = {(item.link.a, item.link.b) for item in result.conflicts}
    links = sorted(
        result.links, key=lambda x: ((x.a, x.b) not in apart, x.score, x.a, x.b)
    )
    files = []
    for number, start in enumerate(range(0, len(links), PAIRS)[:SHEETS], start=1):
        tiles = []
        for link in links[start : start + PAIRS]:
            one, two = result.examined[link.a], result.examined[link.b]
            mark = "! " if (link.a, link.b) in apart else ""
            text = f"{mark}{one.record.id} = {two.record.id} {link.score:.2f}"
            rows = [link.a, link.b]
            both = list(result.thumbnails[rows]), list(result.masks[rows])
            tiles.append(Tile(text, *both))
        files.append(f"sheets/duplicates_{number}.png")
        write_sheet(out / files[-1], tiles, side=160, columns=5)
    return files
