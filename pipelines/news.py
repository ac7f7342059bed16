"""Are a data set's raw data other than those that the champion was trained on?

`python -m pipelines.news --dataset NAME [--raw PLACE] --out ANSWER.json`. By content:
the digest of paths and SHA-256 that `prepare` records and `register` keeps as a tag.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from kmunet.config import Params
from kmunet.data.provenance import digest, raw_files
from pipelines.answer import answer_main
from pipelines.evidence import registered_name
from pipelines.paths import Paths
from pipelines.tracking import CHAMPION, Registry


def run(params: Params, paths: Paths, raw: Path) -> dict[str, Any]:
    """{"train": whether a training has something to learn, "why": in words}."""
    name = registered_name(params, paths.dataset)
    if not raw.exists():  # a stage makes them, or DVC brings them
        return {"train": True, "why": f"{name}: no raw data here yet"}
    registry = Registry(paths.root, name)
    champion = registry.alias(CHAMPION)
    if champion is None:
        return {"train": True, "why": f"{name} has no champion"}
    version, now = champion.version, digest(raw_files(raw))
    if champion.tags.get("raw_digest") == now:
        why = f"{name}: the data are those of the champion, version {version}"
        return {"train": False, "why": why}
    other = registry.find("raw_digest", now)
    if other is not None and "gate" in other.tags:
        why = (
            f"{name}: the data have changed since the champion, version {version}, and "
            f"version {other.version} was trained on them: {other.tags['gate']}"
        )
        return {"train": False, "why": why}
    why = f"{name}: the data have changed since the champion, version {version}"
    return {"train": True, "why": why}


def main(argv: list[str] | None = None) -> int:
    """Answer as JSON, and in words."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.news")
    parser.add_argument("--raw", type=Path)
    return answer_main(
        parser,
        lambda params, paths, given: run(params, paths, given.raw or paths.raw),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
