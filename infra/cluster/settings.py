"""Addresses and ports of a stack: chosen at its first start, and kept."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infra.cluster.place import Place
from infra.local.services import HOST
from kmunet.errors import ConfigError
from pipelines.profile import Profile

NODES = 2
PORTS = {
    "prefect": 4200,
    "mlflow": 5000,
    "s3": 9000,
    "postgres": 5442,  # Debian's own has 5432
    "ray": 6379,
    "dashboard": 8265,
}


@dataclass(frozen=True)
class Settings:
    """`nodes` Ray nodes in the network `network`, whose head has `head`; or none.

    host: where the servers listen. data: PostgreSQL's folder.
    """

    host: str
    head: str
    network: str
    nodes: int
    cpus: int  # of each node
    data: str
    ports: Mapping[str, int]

    def value(self, key: str) -> Any:
        """Of an option: a port by its server's name, or another."""
        return self.ports[key] if key in PORTS else getattr(self, key)

    def at(self, server: str) -> str:
        """HOST:PORT of a server."""
        host = self.head if server in ("ray", "dashboard") else self.host
        return f"{host}:{self.ports[server]}"

    def url(self, server: str) -> str:
        return f"http://{self.at(server)}"

    def profile(self) -> Profile:
        """What clients need to know."""
        return Profile(
            ray_address=self.at("ray"),
            storage="s3://kmunet-checkpoints/trainings",
            mlflow=self.url("mlflow"),
            prefect=f"{self.url('prefect')}/api",
            s3_endpoint=self.url("s3"),
            dvc_remote="s3://kmunet-dvc/cache",
        )


def read(place: Place) -> Settings | None:
    """Those of the last start. Raises ConfigError where they cannot be read."""
    try:
        return Settings(**json.loads(place.settings.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{place.settings}: {error}; remove it: the next `up` makes another"
        ) from None


def write(place: Place, settings: Settings) -> None:
    """Keep them for the next start."""
    text = json.dumps(asdict(settings), indent=1, sort_keys=True)
    place.settings.write_text(text + "\n", encoding="utf-8")


def choose(place: Place, asked: Mapping[str, Any], lacks: list[str]) -> Settings:
    """As asked, else as before, else by default.

    asked: values that are not None. lacks: what keeps us from making network
    namespaces: then Ray is one node of this machine. Raises ConfigError.
    """
    before = read(place)
    settings = before or Settings(
        host=HOST,
        head=HOST,
        network=_network(place.root),
        nodes=0 if lacks else NODES,
        cpus=max(2, (os.cpu_count() or 2) // NODES),
        data=str(place.postgres),
        ports=PORTS,
    )
    ports = {name: asked[name] for name in PORTS if name in asked}
    others = {name: value for name, value in asked.items() if name not in PORTS}
    settings = replace(settings, **others, ports={**PORTS, **settings.ports, **ports})
    if settings.nodes and lacks:
        raise ConfigError(
            f"nodes: {settings.nodes} Ray nodes in network namespaces need "
            f"{'; '.join(lacks)}: add it, or give --nodes 0"
        )
    if settings.nodes and "host" in asked:
        raise ConfigError(
            "host: with nodes the servers are at the network's own address; "
            "give --nodes 0 with --host"
        )
    if before and before.data != settings.data and Path(before.data).exists():
        raise ConfigError(
            f"postgres-data: the databases are in {before.data}: move the folder, "
            f"correct {place.settings}, and give no other"
        )
    return settings


def _network(root: Path) -> str:
    """A name that another checkout does not have."""
    return f"km{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"
