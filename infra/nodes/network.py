"""A bridge of this machine, to which network namespaces are plugged by veth pairs."""

import ipaddress
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from kmunet.errors import ServiceError

_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
_PROGRAMS = {
    "ip": "iproute2",
    **dict.fromkeys(("unshare", "nsenter", "setsid", "mount"), "util-linux"),
}
LAST = 250  # number of a node


def missing() -> list[str]:
    """What keeps this user from making namespaces here, in words; empty: nothing."""
    lacks = [] if os.geteuid() == 0 else ["root (run with sudo)"]
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            lacks.append(f"the program `{program}` (package {package})")
    if not lacks:
        tried = subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode:
            why = tried.stderr.strip().splitlines()[-1:]
            lacks.append(f"leave to make namespaces ({''.join(why)})")
    return lacks


def require() -> None:
    """Raise ServiceError naming all that is missing."""
    if lacks := missing():
        raise ServiceError(
            f"nodes in network namespaces need {'; '.join(lacks)}: add it, or use "
            "machines or containers as nodes"
        )


def ip(*arguments: str) -> str:
    """The output of `ip`. Raises ServiceError with its message."""
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Network:
    """A /24: this machine is `host` (.1), node number n has .(n+1)."""

    name: str  # of the bridge; namespaces are called <name>-<number>
    prefix: str  # the first three numbers, "10.77.0"

    @classmethod
    def create(cls, name: str, prefix: str | None = None) -> "Network":
        """Make it; `prefix`: by default one of 10.77.* that is free. ServiceError."""
        require()
        if not _NAME.fullmatch(name):
            raise ServiceError(
                f"network '{name}': 1 to 10 of a-z and 0-9, a letter first"
            )
        network = cls(name, prefix or _free())
        ip("link", "add", name, "type", "bridge")
        try:
            ip("addr", "add", f"{network.host}/24", "dev", name)
            ip("link", "set", name, "up")
        except ServiceError:
            network.remove()
            raise
        return network

    @classmethod
    def open(cls, name: str) -> "Network":
        """One that was made before, by any process. Raises ServiceError."""
        found = re.search(r"inet (\d+\.\d+\.\d+)\.1/24", ip("-o", "addr", "show", name))
        if found is None:
            raise ServiceError(f"{name}: no network of this project")
        return cls(name, found[1])

    @property
    def host(self) -> str:
        """The address of this machine, for servers that nodes shall reach."""
        return f"{self.prefix}.1"

    def address(self, number: int) -> str:
        """Of a node. Raises ServiceError for a number that cannot be one's."""
        if not 1 <= number <= LAST:
            raise ServiceError(f"node {number} of {self.name}: from 1 to {LAST}")
        return f"{self.prefix}.{number + 1}"

    def hosts(self) -> str:
        """The text of /etc/hosts on every node."""
        lines = [f"{self.address(n)} {self.name}-{n}\n" for n in range(1, LAST + 1)]
        return "".join(["127.0.0.1 localhost\n", f"{self.host} {self.name}\n", *lines])

    def namespaces(self) -> list[str]:
        """Those that are plugged in."""
        names = [line.split()[0] for line in ip("netns", "list").splitlines()]
        return [n for n in names if re.fullmatch(rf"{self.name}-\d+", n)]

    def remove(self) -> None:
        """Kill all that runs on its nodes, and take everything away."""
        from infra.nodes.namespace import remove

        for namespace in self.namespaces():
            remove(namespace)
        with suppress(ServiceError):
            ip("link", "delete", self.name)

    def __enter__(self) -> "Network":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def _free() -> str:
    """A /24 of 10.77.0.0/16 that no interface of this machine has."""
    pattern = r"inet (\d+\.\d+\.\d+\.\d+/\d+)"
    taken = [
        ipaddress.ip_network(found, strict=False)
        for found in re.findall(pattern, ip("-o", "-4", "addr"))
    ]
    # Processes that start at once begin at different places.
    for place in range(256):
        prefix = f"10.77.{(os.getpid() + place) % 256}"
        here = ipaddress.ip_network(f"{prefix}.0/24")
        if not any(here.overlaps(other) for other in taken):
            return prefix
    raise ServiceError("10.77.0.0/16 is taken: give a prefix, or remove old networks")
