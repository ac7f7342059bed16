"""The checkout: git, the environment that stages run with, and its state."""

from collections.abc import Iterator
from pathlib import Path

from flows import repository
from infra.doctor.check import Finding, error, ok, warning
from kmunet.errors import KMUNetError

# `git diff` would refresh the index on the disk.
STATUS = ("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames")


def git(root: Path) -> Iterator[Finding]:
    """A repository, and whether what runs is what is committed."""
    try:
        told = repository.git(root, *STATUS)
    except KMUNetError as problem:
        text = f"{root}: {str(problem).rpartition('fatal: ')[2]}"
        remedy = "clone the project, and run there; git 2.31 or newer is needed"
        yield error("git", text, remedy)
        return
    paths = sorted(line[3:] for line in told.split("\0") if line)
    if paths:
        more = ", ..." if len(paths) > 3 else ""
        text = f"{len(paths)} file(s) not as committed: {', '.join(paths[:3])}{more}"
        yield warning("git", text, "commit them, so that a result names its code")
    else:
        yield ok("git", f"{root}, all is committed")


def project(root: Path) -> Iterator[Finding]:
    """What a run needs to find here."""
    for name in ("dvc.yaml", "params.yaml"):
        if not (root / name).exists():
            text = f"{root / name}: missing"
            yield error("project", text, "run in the project's checkout")
            return
    python = root / ".venv" / "bin" / "python"
    if python.exists():
        yield ok("project", "dvc.yaml, params.yaml and .venv are there")
    else:
        text = f"{python}: missing, and the stages run with it"
        yield error("project", text, "`make install`")
