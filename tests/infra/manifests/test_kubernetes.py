"""Kubernetes' objects against its own schemas, and what no pod may leave out."""

import copy
import shutil
import subprocess

import pytest
import yaml
from deployment_files import INFRA, kubernetes, named, pod_templates

VERSIONS = ("1.31", "1.37")  # the oldest that we mean, the newest that is known
PLAIN = [o for o in kubernetes() if not o["apiVersion"].startswith("ray.io/")]


def validate(item, version=VERSIONS[-1]):
    validator = pytest.importorskip("kubernetes_validate", reason="make test brings it")
    validator.validate(item, version, strict=True)


def name_of(item):
    return f"{item['kind']}/{item['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("item", PLAIN, ids=name_of)
def test_it_is_what_kubernetes_takes(item, version):
    validate(item, version)


@pytest.mark.parametrize("name", ["ray/head", "ray/workers"])
def test_rays_pods_are_what_kubernetes_takes(name):
    template = pod_templates(kubernetes())[name]
    validate(
        {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "ray"},
            "template": template,
        }
    )


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("Deployment", "mlflow", lambda pod, spec: pod.update(imagePullPolice="x")),
        ("Deployment", "mlflow", lambda pod, spec: pod["env"].append({"value": "x"})),
        ("Deployment", "mlflow", lambda pod, spec: spec.update(replicas="two")),
        ("StatefulSet", "s3", lambda pod, spec: spec.pop("selector")),
    ],
)
def test_a_mistake_is_seen(kind, name, change):
    item = copy.deepcopy(named(kubernetes(), kind, name))
    change(item["spec"]["template"]["spec"]["containers"][0], item["spec"])
    with pytest.raises(Exception, match=r"valid|required|not of type"):
        validate(item)


@pytest.mark.parametrize("name", pod_templates(kubernetes()))
def test_no_pod_runs_as_root_or_without_limits(name):
    template = pod_templates(kubernetes())[name]
    pod = template["spec"]
    # MLflow would take MLFLOW_PORT, which such links set, for its own.
    assert pod["enableServiceLinks"] is False
    for each in pod["containers"]:
        secure = {**pod.get("securityContext", {}), **each["securityContext"]}
        assert secure["runAsNonRoot"] is True
        assert secure["allowPrivilegeEscalation"] is False
        assert secure["capabilities"] == {"drop": ["ALL"]}
        assert secure["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "memory" in each["resources"]["limits"]
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
        mounted = {m["name"] for m in each["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"]} | claims(name)


def claims(name):
    """Names of the volumes that a StatefulSet makes for its pods."""
    return {
        claim["metadata"]["name"]
        for item in kubernetes()
        if (item["kind"], item["metadata"]["name"]) == ("StatefulSet", name)
        for claim in item["spec"]["volumeClaimTemplates"]
    }


@pytest.mark.parametrize("name", ["mlflow", "postgres", "prefect", "s3", "worker"])
def test_what_serves_is_watched(name):
    (each,) = pod_templates(kubernetes())[name]["spec"]["containers"]
    assert "livenessProbe" in each
    if name != "worker":
        assert "readinessProbe" in each
        service = named(kubernetes(), "Service", name)
        assert service["spec"]["selector"].items() <= labels(name).items()
        assert service["spec"]["ports"][0]["port"] == each["ports"][0]["containerPort"]


def labels(name):
    return pod_templates(kubernetes())[name]["metadata"]["labels"]


def test_each_kind_of_pod_has_a_policy_that_names_pods_that_exist():
    known = {
        t["metadata"]["labels"]["app.kubernetes.io/component"]
        for t in pod_templates(kubernetes()).values()
    }
    told = set()
    for policy in (o for o in kubernetes() if o["kind"] == "NetworkPolicy"):
        told |= set(components(policy["spec"]["podSelector"]))
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                assert set(components(peer["podSelector"])) <= known
    assert told == known - {"buckets"}  # nobody calls that


def components(selector):
    key = "app.kubernetes.io/component"
    found = [v for k, v in selector.get("matchLabels", {}).items() if k == key]
    for expression in selector.get("matchExpressions", []):
        found += expression["values"]
    return found


def render(overlay):
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here: overlays are not rendered")
    command = ["kubectl", "kustomize", str(INFRA / "kubernetes" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize(("overlay", "gpus"), [("cpu", None), ("gpu", 1)])
def test_overlays_render(overlay, gpus):
    objects = render(overlay)
    assert len(objects) == len(kubernetes())
    for item in objects:
        if not item["apiVersion"].startswith("ray.io/"):
            validate(item)
    images = {
        each["image"]
        for template in pod_templates(objects).values()
        for each in template["spec"]["containers"]
    }
    assert all(":" in image for image in images)  # kustomize found each
    group = named(objects, "RayCluster", "ray")["spec"]["workerGroupSpecs"][0]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == gpus
