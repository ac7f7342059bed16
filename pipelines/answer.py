"""The command of a question about one data set, which flows/ask.py calls: JSON."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmunet.config import Params, load_params
from pipelines.paths import Paths
from pipelines.stage import report_errors

Ask = Callable[[Params, Paths, argparse.Namespace], dict[str, Any]]


def answer_main(
    parser: argparse.ArgumentParser, ask: Ask, argv: list[str] | None = None
) -> int:
    """Write the answer to --out and print its words, "why"; the exit code of a stage.

    parser: of `python -m pipelines.NAME`, with the options of this question alone.
    """
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def act() -> None:
        paths = Paths(Path.cwd(), arguments.dataset)
        answer = ask(load_params(paths.params), paths, arguments)
        arguments.out.write_text(json.dumps(answer), encoding="utf-8")
        print(answer["why"], flush=True)

    return report_errors(parser.prog.rpartition(".")[2], act)
