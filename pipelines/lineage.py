"""`kmunet lineage models:/NAME@ALIAS`: from a model version back to its archives.

Exit code 1 where --check finds other files than those recorded, 2 where there is no
such version or no lineage of it. MLFLOW_TRACKING_URI says where to look, or else the
checkout around the current folder.
"""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmunet.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from pipelines.tracking import Found

_URI = re.compile(
    r"models:/(?P<name>[^/@'\"]+)(/(?P<version>\d+)|@(?P<alias>[^/@'\"]+))"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="models:/NAME/3 or models:/NAME@champion")
    add("--json", action="store_true", help="print all of it as JSON")
    check = "compare raw files with those recorded (default: data/raw/ of the checkout)"
    # True, as a folder may be named by any path, "." too.
    add("--check", nargs="?", type=Path, const=True, metavar="DIR_OR_FILE", help=check)


def run(arguments: argparse.Namespace) -> int:
    """Print where a version comes from; the exit code. Raises KMUNetError."""
    named = _URI.fullmatch(arguments.model)
    if named is None:
        raise ConfigError(
            f"{arguments.model}: write models:/NAME/VERSION or models:/NAME@ALIAS, as "
            "in models:/kmunet-busi@champion"
        )
    from pipelines.tracking import Catalogue  # seconds to import

    found = Catalogue(Path.cwd()).find(
        named["name"], version=named["version"] or "", alias=named["alias"] or ""
    )
    if not found.lineage:
        raise ServiceError(_without(found))
    table = {**asdict(found), "check": None}
    if arguments.check is not None:
        table["check"] = _check(found.lineage, arguments.check)
    if arguments.json:
        print(json.dumps(table, indent=1, sort_keys=True))
    else:
        from pipelines.lineage_tree import show

        show(table)
    return 1 if table["check"] and not table["check"]["agrees"] else 0


def _check(lineage: Mapping[str, Any], given: Path | bool) -> dict[str, Any]:
    """Compare the recorded raw files with those of a folder or one archive.

    given: True for those of the checkout.
    """
    from kmunet.data.provenance import compare

    recorded = lineage.get("raw", {}).get("files")
    if not recorded:
        raise ServiceError("the version has no record of raw files to compare with")
    if isinstance(given, bool):
        given = _of_the_checkout(lineage["dataset"])
    result = compare(recorded, given)
    return {**asdict(result), "agrees": result.agrees, "place": str(given)}


def _of_the_checkout(dataset: str) -> Path:
    for root in (Path.cwd(), *Path.cwd().parents):
        place = root / "data" / "raw" / dataset
        if place.exists() and (root / "params.yaml").exists():
            return place
    raise ConfigError(
        f"--check: no data/raw/{dataset} here; name the folder or the archive"
    )


def _without(found: "Found") -> str:
    known = ", ".join(f"{key} {value}" for key, value in sorted(found.tags.items()))
    return (
        f"models:/{found.name}/{found.version} was registered before lineage was "
        f"recorded and has none; its tags say: {known or 'nothing'}"
    )
