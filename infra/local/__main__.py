"""`python -m infra.local up|down|status`, for the checkout around this folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flows.repository import toplevel
from infra.local import stack
from infra.local.command import exit_code
from pipelines import profile


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 with one message."""
    arguments = _parser().parse_args(argv)
    return exit_code(lambda: _act(arguments))


def _act(arguments: argparse.Namespace) -> int | None:
    profile.apply()
    root = toplevel(Path.cwd())
    if arguments.action == "status":
        return stack.status(root)
    if arguments.action == "up":
        stack.up(root, arguments.prefect_port, arguments.mlflow_port)
    else:
        stack.down(root)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local",
        description="A Prefect server, an MLflow server and a worker on 127.0.0.1; "
        "their files lie in .kmunet/.",
    )
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--prefect-port", type=int, default=4200, metavar="PORT")
    parser.add_argument("--mlflow-port", type=int, default=5000, metavar="PORT")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
