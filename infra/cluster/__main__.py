"""`python -m infra.cluster up|down|status`, for the checkout around us."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.repository import toplevel
from infra.cluster import clients, control
from infra.cluster.settings import PORTS
from kmunet.errors import KMUNetError


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 with one message."""
    asked = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    action = asked.pop("action")
    clients.forget_others()
    try:
        root = toplevel(Path.cwd())
        if action == "up":
            control.up(root, asked)
        elif action == "down":
            control.down(root)
        else:
            return control.status(root)
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing that was started is left running", file=sys.stderr)
        return 130
    return 0


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
