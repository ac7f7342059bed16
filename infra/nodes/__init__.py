"""Ray nodes as plain processes of this machine, each with an address of its own.

    with Network.create("lab") as network:
        head = Node(network, 1, folder / "1", token=token)
        head.start()
        other = Node(network, 2, folder / "2", token=token)
        other.start(head=head.address)
        head.wait(2)

Linux, root and iproute2 are needed: `require()` says what is missing. Nothing here is
kept in memory alone: `Network.open("lab")` in another process finds all again.
"""

from infra.nodes.network import Network, missing, require
from infra.nodes.node import Node

__all__ = ["Network", "Node", "missing", "require"]
