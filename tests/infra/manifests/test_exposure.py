"""Servers listen to this machine, or to a cluster's inside, and to nobody else."""

import re
import subprocess
from pathlib import Path

import pytest
from deployment_files import ROOT, compose, kubernetes, pod_templates, units

from infra.local.services import HOST

# In containers, where a published port or a policy says who comes in.
INSIDE = {"infra/compose/compose.yaml"} | {
    f"infra/kubernetes/base/{name}.yaml" for name in ("mlflow", "prefect", "ray", "s3")
}
LISTENS = re.compile(r"(?<![\w.])(?:--?[\w.-]*(?:host|bind|addr)[= ])(\S+)")


def test_here_they_listen_on_loopback():
    assert HOST == "127.0.0.1"


def test_compose_publishes_on_loopback_alone():
    services = compose()["services"]
    ports = {name: service.get("ports", []) for name, service in services.items()}
    assert sum(map(len, ports.values())) >= 4
    for name, published in ports.items():
        assert all(str(p).startswith("127.0.0.1:") for p in published), name
    assert ports["postgres"] == []
    assert not any("network_mode" in s for s in services.values())


def test_kubernetes_publishes_nothing_and_lets_in_who_is_named():
    kinds = {item["kind"] for item in kubernetes()}
    assert not kinds & {"Ingress", "Gateway", "HTTPRoute"}
    for item in kubernetes():
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            assert spec.get("type", "ClusterIP") == "ClusterIP"
        if item["kind"] == "RayCluster":
            assert spec["headGroupSpec"]["headService"]["spec"]["type"] == "ClusterIP"
        if item["kind"] == "NetworkPolicy":
            assert all(rule.get("from") for rule in spec.get("ingress", []))
    policies = [o for o in kubernetes() if o["kind"] == "NetworkPolicy"]
    default = {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert any(policy["spec"] == default for policy in policies)


def test_no_pod_uses_its_nodes_network():
    for name, template in pod_templates(kubernetes()).items():
        pod = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        for each in pod["containers"]:
            assert not any("hostPort" in port for port in each.get("ports", [])), name


@pytest.mark.parametrize("name", ["kmunet-mlflow", "kmunet-prefect", "kmunet-ray-head"])
def test_units_listen_on_loopback(name):
    start = dict(units()[name])["ExecStart"]
    assert set(LISTENS.findall(start)) == {"127.0.0.1"}


def test_no_other_file_opens_a_server_to_all():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "infra", "flows", "pipelines", "kmunet", "benchmarks",
         "Makefile", "prefect.yaml"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("no git repository here")
    opened = {
        name
        for name in filter(None, listed.stdout.split("\0"))
        if Path(name).suffix not in {".json", ".png", ".jpg", ".csv"}
        and "0.0.0.0" in (ROOT / name).read_text("utf-8", errors="replace")
    }
    assert opened == INSIDE


def test_ray_asks_for_a_token_wherever_it_is_started():
    for name in ("ray-head", "ray-worker", "worker"):
        environment = compose()["services"][name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
    for name in ("kmunet-ray-head", "kmunet-ray-worker", "kmunet-worker"):
        said = [value for key, value in units()[name] if key == "Environment"]
        assert "RAY_AUTH_MODE=token" in " ".join(said)
