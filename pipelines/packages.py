"""Whether an environment is the project's: pyproject.toml and constraints.txt say."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def missing(source: Path) -> list[str]:
    """What pyproject.toml of the checkout `source` needs and is not installed."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [
        re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in project["dependencies"]
    ]
    return [name for name in needed if not installed(name)]


def others(source: Path) -> list[str]:
    """What is installed in another version than constraints.txt names, in words."""
    found = []
    for line in (source / "constraints.txt").read_text("utf-8").splitlines():
        name, pinned, wanted = line.partition("#")[0].strip().partition("==")
        have = installed(name).partition("+")[0] if pinned else ""
        if have and have != wanted.partition("+")[0]:
            found.append(f"{name} {have} (tested: {wanted})")
    return found


def installed(name: str) -> str:
    """A package's version; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
