"""The flow as a plain call: `python -m flows.main [--dataset NAME] [--set KEY=VALUE]`.

Without a server, see embedded.py; with PREFECT_API_URL, on the server that it names.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from flows import terminal
from flows.plan import make_plan
from flows.summary import show
from kmunet.errors import KMUNetError
from pipelines import overrides


def main(flow: Callable[..., Any], argv: Sequence[str] | None = None) -> int:
    """Run the flow in this process; return 0, or 2 with one message."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        request = _request(_parser().parse_args(argv))
        make_plan(**request)  # bad input ends here, before a server starts
        return _run(flow, request)
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _interrupt(signum: int, frame: object) -> None:
    """End as Ctrl-C does: Prefect's temporary server must not stay behind."""
    raise KeyboardInterrupt


def _run(flow: Callable[..., Any], request: dict[str, Any]) -> int:
    terminal.attach()
    state = flow(**request, return_state=True)
    if state.is_completed():
        results: Any = state.result()
        show(results)
        return 0
    if state.is_crashed():
        state.result()  # raises what happened
    raise KMUNetError(state.message or state.name)


def _request(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "datasets": arguments.dataset,
        "overrides": dict(map(overrides.parse, arguments.set)) or None,
        "raw": dict(map(_place, arguments.raw)) or None,
        "force": arguments.force,
    }


def _place(text: str) -> tuple[str, str]:
    name, found, place = text.partition("=")
    if not found or not name or not place:
        raise KMUNetError(
            f"--raw {text}: write it as NAME=PATH or NAME=URL, as in busi=BUSI.zip"
        )
    return name, place


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.main",
        description="Prepare, train, evaluate and register; what is up to date is "
        "not redone.",
    )
    parser.add_argument(
        "--dataset", action="append", metavar="NAME",
        help="a name under 'sources' in params.yaml; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--raw", action="append", default=[], metavar="NAME=PATH",
        help="where a data set's download lies: an archive or a folder, or a URL",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a value of params.yaml for this run alone, as in train.epochs=2",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="run every stage, up to date or not"
    )
    return parser
