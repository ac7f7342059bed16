"""What a stack is made of: processes with a record, and Ray nodes in namespaces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from infra.cluster.settings import Settings
from infra.local import processes
from infra.local.services import Service
from infra.nodes import Node

START_LIMIT = 180.0  # seconds; the first start makes the databases


class Part(Protocol):
    """Something that starts, runs and ends by itself."""

    @property
    def name(self) -> str: ...

    def where(self) -> str:
        """Its process or address; empty where it does not run."""

    def check(self) -> None:
        """Raise KMUNetError if it cannot start."""

    def start(self) -> None:
        """Start it; returns at once."""

    def wait(self) -> None:
        """Until it is ready. Raises ServiceError naming its log."""

    def stop(self) -> bool:
        """End it; whether it ran."""


@dataclass
class Process:
    """A service, described when it starts: some depend on what runs by then."""

    name: str
    describe: Callable[[], Service]
    folder: Path

    @cached_property
    def service(self) -> Service:
        return self.describe()

    def where(self) -> str:
        record = processes.find(self.name, self.folder)
        port = f", port {record.port}" if record and record.port else ""
        return f"pid {record.pid}{port}" if record else ""

    def check(self) -> None:
        processes.check_port(self.service)

    def start(self) -> None:
        self._record = processes.start(self.service, self.folder)

    def wait(self) -> None:
        processes.wait(self.service, self._record, self.folder, START_LIMIT)

    def stop(self) -> bool:
        return processes.stop(self.name, self.folder)


@dataclass
class RayNode:
    """One of `nodes`, whose first is the head, with the dashboard at its address."""

    node: Node
    nodes: Sequence[Node]
    settings: Settings

    @property
    def name(self) -> str:
        return f"ray-{self.node.number}"

    def where(self) -> str:
        found = self.node.pids
        return f"{self.node.ip}, {len(found)} processes" if found else ""

    def check(self) -> None:
        """Its network is its own."""

    def start(self) -> None:
        cpus = self.settings.cpus
        head = self.nodes[0]
        if self.node is not head:
            self.node.start(head.address, cpus)
            return
        port = self.settings.ports["dashboard"]
        place = (f"--dashboard-host={head.ip}", f"--dashboard-port={port}")
        self.node.start(None, cpus, options=("--include-dashboard=true", *place))

    def wait(self) -> None:
        if self.node is self.nodes[-1]:
            self.nodes[0].wait(len(self.nodes), START_LIMIT)

    def stop(self) -> bool:
        ran = bool(self.node.pids)
        self.node.kill()
        return ran
