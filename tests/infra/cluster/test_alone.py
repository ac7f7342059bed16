"""The stack without network namespaces: servers on loopback, one Ray node."""

import json

import pytest
from cluster import Cluster, alone, running
from small_project import make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
CODE = """
import ray
from pipelines.ray_cluster import connect, shutdown
connect(1)
print(ray.get(ray.remote(lambda: 6 * 7).remote()))
shutdown()
"""


def test_a_driver_of_this_machine_uses_its_ray(cluster, reachable):
    cluster.down()
    root = make_project(reachable / "alone")
    for found in running(Cluster(root, tuple(alone()))):
        settings = found.stack.settings
        assert (settings.host, settings.nodes) == ("127.0.0.1", 0)
        done = found.python("-c", CODE)
        assert done.stdout.strip() == "42", done.stderr
        told = json.loads(found.python("-m", "infra.doctor", "--json").stdout)
        ray = next(item for item in told if item["name"] == "ray")
        assert "1 node(s)" in ray["text"]
