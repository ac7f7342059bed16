"""`python -m infra.cluster up|down|status`, for the checkout around us."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.repository import toplevel
from infra.cluster import clients, control
from infra.cluster.settings import PORTS
from infra.local.command import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 with one message."""
    asked = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    clients.forget_others()
    return exit_code(lambda: _act(asked.pop("action"), asked))


def _act(action: str, asked: dict[str, Any]) -> int | None:
    root = toplevel(Path.cwd())
    if action == "status":
        return control.status(root)
    if action == "up":
        control.up(root, asked)
    else:
        control.down(root)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.cluster",
        description="PostgreSQL, S3, MLflow, Prefect, Ray nodes and a worker on this "
        "machine, with passwords; their files lie in .kmunet/cluster.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up", help="start what does not run")
    add = up.add_argument
    add(
        "--nodes",
        type=int,
        metavar="N",
        help="Ray nodes in network namespaces (default: 2); 0: one on this machine",
    )
    add("--cpus", type=int, metavar="N", help="CPUs of each Ray node")
    add("--network", metavar="NAME", help="of the nodes' network")
    add("--host", metavar="ADDRESS", help="where servers listen, with --nodes 0")
    add("--postgres-data", dest="data", metavar="FOLDER", help="the databases")
    for server, port in PORTS.items():
        add(f"--{server}-port", dest=server, type=int, metavar="PORT",
            help=f"default: {port}")  # fmt: skip
    actions.add_parser("down", help="end all; data stay")
    actions.add_parser("status", help="say what runs")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
