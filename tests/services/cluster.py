"""A whole stack for tests: `python -m infra.cluster` in a checkout."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from small_project import python

from infra.cluster import control
from infra.cluster.place import Place
from infra.nodes import missing


@dataclass(frozen=True)
class Cluster:
    """The stack of one checkout."""

    root: Path

    def call(self, *arguments):
        return python(self.root, "-m", "infra.cluster", *arguments)

    def up(self):
        """Nodes in namespaces where that can be; else one, on ports of its own."""
        name = f"cl{os.getpid() % 10**6}"
        return self.call("up", "--network", name, *([] if not missing() else ALONE))

    def down(self):
        return self.call("down")

    def python(self, *arguments):
        """As a client that has sourced what `up` says."""
        return python(self.root, *arguments, **self.env)

    @property
    def place(self):
        return Place(self.root)

    @cached_property
    def stack(self):
        return control.existing(self.root)

    @cached_property
    def env(self):
        line = f"source {self.place.env}; env -0"
        told = subprocess.check_output(["bash", "-c", line], env={}, text=True)
        pairs = (item.split("=", 1) for item in told.split("\0") if item)
        return {k: v for k, v in pairs if k not in ("_", "PWD", "SHLVL")}

    def records(self):
        """Where each part is, by name."""
        return {part.name: part.where() for part in self.stack.parts()}


ALONE = ("--nodes", "0", "--prefect-port", "4291", "--mlflow-port", "5091",
         "--s3-port", "9091", "--postgres-port", "5491", "--ray-port", "6391",
         "--dashboard-port", "8291")  # fmt: skip


def running(found):
    """Start it; in the end nothing of it is left."""
    done = found.up()
    try:
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        print(found.down().stdout, file=sys.stderr)
