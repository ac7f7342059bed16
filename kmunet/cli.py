"""The `kmunet` command: arguments to subcommands, errors to one line and a code.

Commands that need more than the library (MLflow, peers to measure) live above it and
join by the entry point group `kmunet.commands`: a module with `add_arguments` and `run`
that imports what is heavy in `run` only. What `kmunet.start` names is called before a
command, unless its module has `chooses_profile`.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any

import kmunet
from kmunet.commands import data_augment, data_check, data_get
from kmunet.errors import FAILED, KMUNetError, system_said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `kmunet ARGUMENTS`; 0 if all is well, 2 for what a user can mend, 75 for what
    waiting may mend."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.start:
            _start()
        code: int = parsed.run(parsed)
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise  # whoever read what is printed has left: no matter of a file
    except OSError as error:  # that nobody told better
        print(f"error: {system_said(error)}", file=sys.stderr)
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kmunet", description=kmunet.__doc__)
    parser.add_argument("--version", action="version", version=kmunet.__version__)
    areas = parser.add_subparsers(required=True, metavar="COMMAND")
    data = areas.add_parser("data", help="look at data sets")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "augment", data_augment)
    _add(actions, "check", data_check)
    _add(actions, "get", data_get)
    for entry in sorted(entry_points(group="kmunet.commands"), key=lambda e: e.name):
        _add(areas, entry.name, _load(entry))
    return parser


def _start() -> None:
    """Let layers above prepare the process, as by addresses of services."""
    for entry in entry_points(group="kmunet.start"):
        try:
            prepare = entry.load()
        except ImportError as error:
            raise _outdated(entry, error) from None
        prepare()


def _load(entry: EntryPoint) -> Any:
    """The command's module; one that cannot be imported leaves the others alone."""
    try:
        return entry.load()
    except ImportError as error:
        return SimpleNamespace(
            __doc__=f"cannot be used here: {error}",
            add_arguments=lambda parser: None,
            run=partial(_refuse, entry, error),
        )


def _refuse(entry: EntryPoint, error: ImportError, _: argparse.Namespace) -> int:
    raise _outdated(entry, error)


def _outdated(entry: EntryPoint, error: ImportError) -> KMUNetError:
    return KMUNetError(
        f"{entry.name}: {error}; the environment was made for another version of this "
        "checkout: `make install` mends it"
    )


def _add(parsers: Any, name: str, module: Any) -> None:
    about = (module.__doc__ or "").strip()
    first = about.splitlines()[0].split(": ", 1)[-1]
    parser = parsers.add_parser(name, help=first, description=about)
    module.add_arguments(parser)
    start = not getattr(module, "chooses_profile", False)
    parser.set_defaults(run=module.run, start=start)


if __name__ == "__main__":
    sys.exit(main())
