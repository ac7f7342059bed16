"""One checkout's stack: which parts there are, in which order they start."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from infra.cluster import clients, postgres, services
from infra.cluster.parts import Part, Process, RayNode
from infra.cluster.place import Place
from infra.cluster.secrets import Secrets
from infra.cluster.settings import Settings
from infra.local.services import Service
from infra.nodes import Network, Node, namespace
from pipelines.quiet import SETTINGS


@dataclass(frozen=True)
class Stack:
    """Describes; infra/cluster/control.py acts."""

    place: Place
    settings: Settings
    secrets: Secrets

    @property
    def api(self) -> str:
        """Prefect's."""
        return f"{self.settings.url('prefect')}/api"

    def groups(self) -> list[list[Part]]:
        """Those of one group start at once, when the group before is ready."""
        return [
            [self._process("postgres", postgres.service, self.settings),
             self._process("s3", services.s3, *self._all)],
            [self._process("mlflow", services.mlflow, *self._all),
             self._process("prefect", services.prefect, *self._all), *self._ray()],
            [self._process("worker", self._worker)],
        ]  # fmt: skip

    def parts(self) -> list[Part]:
        return [part for group in self.groups() for part in group]

    def inside(self) -> list[str]:
        """The command that enters the head's node, where the worker runs."""
        if not self.settings.nodes:
            return []
        return namespace.entering(f"{self.settings.network}-1")

    @property
    def _all(self) -> tuple[Place, Settings, Secrets]:
        return self.place, self.settings, self.secrets

    def _process(self, name: str, describe: Any, *arguments: Any) -> Process:
        return Process(name, partial(describe, *arguments), self.place.folder)

    def _worker(self) -> Service:
        return services.worker(*self._all, self.inside())

    def _ray(self) -> list[Part]:
        if not self.settings.nodes:
            return [self._process("ray", services.ray, *self._all)]
        nodes = [self._node(number + 1) for number in range(self.settings.nodes)]
        return [RayNode(node, nodes, self.settings) for node in nodes]

    def _node(self, number: int) -> Node:
        """With the keys to S3: its workers keep checkpoints there."""
        network = Network(self.settings.network, self.settings.host.rpartition(".")[0])
        address = {"AWS_ENDPOINT_URL": self.settings.url("s3")}
        env = {**SETTINGS, **clients.aws(self.secrets), **address}
        folder = self.place.node(number)
        return Node(network, number, folder, self.secrets.ray_token, env)
