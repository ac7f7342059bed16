"""What the stages share: read the arguments and params, report errors in one line."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from kmunet.config import Params, load_params
from kmunet.errors import FAILED, KMUNetError, system_said
from pipelines import profile
from pipelines.paths import Paths

Run = Callable[[Params, Paths], None]
PROMOTED = "promoted to champion"  # in a line of register; flows look for it


def stage_main(name: str, run: Run, argv: list[str] | None = None) -> int:
    """Run one stage in the current directory.

    One line and exit code 2 on bad input, 75 where waiting may help.
    """
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.{name}")
    parser.add_argument("--dataset", required=True, help="a name under 'sources'")
    arguments = parser.parse_args(argv)
    paths = Paths(Path.cwd(), arguments.dataset)
    return report_errors(name, lambda: _run(run, paths))


def short(path: Path) -> Path:
    """Relative to the current folder where it lies below: messages are read there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def report_errors(name: str, action: Callable[[], None]) -> int:
    """Call `action`; print what a user can mend as `error: NAME: ...`; exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        profile.apply()
        action()
    except KeyboardInterrupt:
        print(f"error: {name}: interrupted", file=sys.stderr, flush=True)
        return 130
    except KMUNetError as error:
        print(f"error: {name}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        full = error.errno in _SPACE
        if not full and not error.filename:  # of a socket, or of a process
            raise
        said = _space(error) if full else system_said(error)
        print(f"error: {name}: {said}", file=sys.stderr, flush=True)
        return FAILED
    return 0


def _run(run: Run, paths: Paths) -> None:
    params = load_params(paths.params)
    params.size(paths.dataset)  # the data set is declared, and can be trained on
    run(params, paths)


def _interrupt(signum: int, frame: object) -> None:
    """End as Ctrl-C does: what was begun is taken back, Ray's processes are ended."""
    raise KeyboardInterrupt


_SPACE = (28, 122)  # ENOSPC, EDQUOT


def _space(error: OSError) -> str:
    where = error.filename or "the disk"
    return f"no space left for {where}: free some, then run the same command again"
