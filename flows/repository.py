"""The few git commands that a run needs."""

import subprocess
from pathlib import Path

from kmunet.errors import ConfigError


def git(root: Path, *arguments: str) -> str:
    """Return a git command's output. Raises ConfigError with what git says."""
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"git {arguments[0]} in {root}: {done.stderr.strip()}")
    return done.stdout


def toplevel(place: Path) -> Path:
    """Return the checkout around `place`."""
    return Path(git(place, "rev-parse", "--show-toplevel").strip())


def changed(root: Path) -> list[str]:
    """Return the paths whose state is not the last commit's, ignored ones aside."""
    edited = git(root, "diff", "--name-only", "-z", "--no-renames", "HEAD")
    added = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({path for path in (edited + added).split("\0") if path})
