"""The `kmunet` command: arguments to subcommands, errors to one line and a code."""

import argparse
import sys
from collections.abc import Sequence

import kmunet
from kmunet.commands import data_check
from kmunet.errors import KMUNetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `kmunet ARGUMENTS`; 0 if all is well, 2 for what a user can mend."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kmunet", description=kmunet.__doc__)
    parser.add_argument("--version", action="version", version=kmunet.__version__)
    areas = parser.add_subparsers(required=True, metavar="AREA")
    data = areas.add_parser("data", help="look at data sets")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="read every pair and report", description=data_check.__doc__
    )
    data_check.add_arguments(check)
    check.set_defaults(run=data_check.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
