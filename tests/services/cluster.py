"""A whole stack for tests: `python -m infra.cluster` in a checkout."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import pytest
from small_project import python

from infra.cluster import control, services
from infra.cluster.place import Place
from infra.cluster.settings import PORTS, choose
from infra.nodes import missing
from kmunet.errors import ServiceError


@dataclass(frozen=True)
class Cluster:
    """The stack of one checkout: nodes in namespaces, where that can be."""

    root: Path
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, root):
        return cls(root, tuple(alone()) if missing() else ())

    def call(self, *arguments):
        return python(self.root, "-m", "infra.cluster", *arguments)

    def up(self):
        """As the first time."""
        name = f"cl{os.getpid() % 10**6}"
        return self.call("up", "--network", name, *self.options)

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


def alone():
    """Options of a stack without namespaces, on free ports."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in probes]
    names = [f"--{server}-port" for server in PORTS]
    return ["--nodes", "0", *chain(*zip(names, ports, strict=True))]


def check_installed():
    """Skip, saying why, where a part of the stack is not installed."""
    try:
        services.check_programs(choose(Place(Path("/nowhere")), {}, []))
    except ServiceError as error:
        pytest.skip(str(error))


@contextmanager
def open_folder():
    """A folder through which others may pass: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="kmunet-cluster-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def running(found):
    """Start it; in the end nothing of it is left."""
    done = found.up()
    try:
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        print(found.down().stdout, file=sys.stderr)
