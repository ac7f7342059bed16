"""The driver's code on every node: sent with the run, and checked where it runs.

A node needs the packages that ours need, in the same versions, and not ours: a worker
runs what the driver runs, or refuses.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from kmunet.errors import TrainingError
from pipelines import profile
from pipelines.receipt import PACKAGES, code_digest

ROOT = Path(__file__).parents[1]
PARTS = ("kmunet", "pipelines")


@contextmanager
def packed_code() -> Iterator[str]:
    """A folder with our packages and the profiles, to be Ray's `working_dir`.

    The same code gives the same content, which Ray then sends only once to a node.
    """
    with TemporaryDirectory(prefix="kmunet-code-") as name:
        folder = Path(name)
        for part in PARTS:
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(ROOT / part, folder / part, ignore=unwanted)
        chosen = Path(os.environ.get("KMUNET_PROFILES") or profile.FILE)
        if chosen.exists():
            (folder / "infra").mkdir()
            shutil.copyfile(chosen, folder / "infra" / profile.FILE.name)
        yield name


def versions() -> dict[str, str]:
    """What must be the same on the driver and on every node."""
    found = {"kmunet's code": code_digest()[:12], "python": platform.python_version()}
    for package in (*PACKAGES, "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def check_versions(expected: Mapping[str, str]) -> None:
    """On a worker. Raises TrainingError naming the node and what differs on it."""
    here = versions()
    for name, wanted in expected.items():
        if here.get(name) != wanted:
            raise TrainingError(
                f"node {platform.node()} has {name} {here.get(name, 'missing')}, the "
                f"driver {wanted}: install the same there (constraints.txt), since "
                "another version gives other results"
            )
