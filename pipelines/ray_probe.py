"""`python -m pipelines.ray_probe HOST:PORT`: a Ray cluster's versions and resources.

Asks the head without joining, and prints JSON. `kmunet doctor` runs it as a process,
which can be ended: Ray's own waiting cannot.
"""

import json
import sys
from typing import Any


def probe(address: str) -> dict[str, Any]:
    """Versions of Ray and Python on the head, live nodes, and their resources."""
    from ray._common.usage import usage_lib
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        address = canonicalize_bootstrap_address("auto") or "auto"
    client = GcsClient(address=address)
    metadata = usage_lib.get_cluster_metadata(client) or {}
    nodes = [
        node
        for node in client.get_all_node_info(timeout=5).values()
        if node.state == 0  # ALIVE
    ]
    total = [dict(node.resources_total) for node in nodes]
    return {
        "ray": metadata.get("ray_version", ""),
        "python": metadata.get("python_version", ""),
        "nodes": len(nodes),
        "cpus": sum(node.get("CPU", 0) for node in total),
        "gpus": sum(node.get("GPU", 0) for node in total),
    }


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))
