"""A Ray node in a namespace: its own address, home, temp folder, cache and keys."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.nodes import namespace
from infra.nodes.network import Network
from kmunet.errors import ServiceError

PORT = 6379
STORE = 100 * 2**20  # bytes of shared memory for Ray's objects
TEMP = Path("/tmp/ray")  # where Ray keeps a machine's sessions


@dataclass(frozen=True)
class Node:
    """Node `number` of a network; `folder` is its disk.

    token: the secret that all nodes and drivers of a cluster have. env: what else its
    processes find in their environment (AWS_*, KMUNET_PROFILE, ...): they get nothing
    of the caller's. hidden: folders of this machine that do not exist there, so that
    nothing is shared (not above `folder`).
    """

    network: Network
    number: int
    folder: Path
    token: str = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    hidden: Sequence[Path] = ()

    @property
    def name(self) -> str:
        """Of its namespace, and its host name."""
        return f"{self.network.name}-{self.number}"

    @property
    def ip(self) -> str:
        return self.network.address(self.number)

    @property
    def address(self) -> str:
        """HOST:PORT of Ray, if this node is the head: RAY_ADDRESS."""
        return f"{self.ip}:{PORT}"

    @property
    def log(self) -> Path:
        return self.folder / "ray.log"

    def start(
        self,
        head: str | None = None,
        cpus: int = 1,
        gpus: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        """Start Ray: the head of a cluster, or a node of the one at `head`.

        Returns at once (`wait` on the head). A node that Ray gives up, as after
        `cut_off`, starts again every second, as under systemd. options: further ones
        of `ray start`, such as --dashboard-host.
        """
        if namespace.pids(self.name):
            raise ServiceError(f"{self.name} runs already: kill it first")
        namespace.add(self.network, self.number)
        for part in ("home", "tmp", "cache"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        TEMP.mkdir(exist_ok=True)
        ray = shlex.join(self._ray(head, cpus, gpus, options))
        command = ["sh", "-c", f"while true; do {ray}; sleep 1; done"]
        namespace.start(
            self.name, command, self._mounts(), self.environment(), self.log
        )

    def kill(self) -> None:
        """End all its processes at once; its folder stays, `start` starts it again."""
        namespace.kill(self.name)

    def cut_off(self) -> None:
        """Take the cable out: no packet comes or goes."""
        namespace.plug(self.name, False)

    def join_again(self) -> None:
        """Put the cable back in."""
        namespace.plug(self.name, True)

    @property
    def pids(self) -> list[int]:
        """Its processes, as this machine numbers them."""
        return namespace.pids(self.name)

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        """Start a command beside its Ray, with its environment (and `options["env"]`).

        Raises ServiceError where the node does not run.
        """
        env = self.environment() | dict(options.pop("env", {}))
        entered = [*namespace.entering(self.name), *command]
        options = {"text": True, "cwd": self.folder / "home", **options}
        return subprocess.Popen(entered, env=env, **options)

    def wait(self, nodes: int = 1, limit: float = 60.0) -> None:
        """Wait until the cluster of this head has so many nodes; or ServiceError."""
        deadline = time.monotonic() + limit
        while (have := self.count()) < nodes:
            if time.monotonic() > deadline or not self.pids:
                raise ServiceError(
                    f"{self.name}: {have} of {nodes} Ray nodes within {limit:.0f} s; "
                    f"see {self.log} and the logs of the others"
                )
            time.sleep(0.5)

    def count(self) -> int:
        """Live nodes of the cluster of this head, drivers' too; 0: no answer."""
        return int(self._probe().get("nodes", 0))

    def environment(self) -> dict[str, str]:
        """All that its processes find."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "LANG": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            # Else gloo and NCCL may choose the loopback device.
            "GLOO_SOCKET_IFNAME": "eth0",
            "NCCL_SOCKET_IFNAME": "eth0",
            "OMP_WAIT_POLICY": "passive",
            **self.env,
        }

    def _mounts(self) -> list[str]:
        at = {"tmp": TEMP, "hosts": Path("/etc/hosts"), "dns": Path("/etc/resolv.conf")}
        (self.folder / "hosts").write_text(self.network.hosts())
        # No server: a name that is not in hosts is unknown at once, not after 20 s.
        (self.folder / "dns").write_text("nameserver 127.0.0.1\noptions attempts:1\n")
        commands = [
            f"mount --bind {shlex.quote(str(self.folder / name))} {place}"
            for name, place in at.items()
        ]
        for folder in self.hidden:
            if not folder.is_dir():
                raise ServiceError(f"{self.name}: {folder} cannot be hidden: no folder")
            commands.append(f"mount -t tmpfs none {shlex.quote(str(folder))}")
        return commands

    def _ray(
        self, head: str | None, cpus: int, gpus: int, options: Sequence[str]
    ) -> list[str]:
        place = ["--head", f"--port={PORT}"] if head is None else [f"--address={head}"]
        if head is None and not any("dashboard" in option for option in options):
            place.append("--include-dashboard=false")
        return [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *place),
            f"--node-ip-address={self.ip}",
            *(f"--num-cpus={cpus}", f"--num-gpus={gpus}"),
            *(f"--object-store-memory={STORE}", "--disable-usage-stats", "--block"),
            *options,
        ]

    def _probe(self) -> dict[str, Any]:
        from infra.doctor.machine import probe

        env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        with suppress(ServiceError):
            return probe("pipelines.ray_probe", self.address, limit=15.0, env=env)
        return {}
