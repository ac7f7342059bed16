"""RayCluster and RayJob: against KubeRay's definitions where they are, and by name."""

import copy
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from deployment_files import INFRA, kubernetes, named

CRDS = os.environ.get("KMUNET_KUBERAY_CRDS")  # KubeRay's ray-operator/config/crd/bases
CLUSTER = named(kubernetes(), "RayCluster", "ray")
JOB = yaml.safe_load((INFRA / "kubernetes" / "train-job.yaml").read_text("utf-8"))
"""The fields of KubeRay 1.7 that are used here; the pods' own are Kubernetes'."""
FIELDS = {
    "cluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling",
                "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"},
    "authOptions": {"mode", "secretName"},
    "autoscalerOptions": {"idleTimeoutSeconds", "resources", "securityContext"},
    "head": {"headService", "rayStartParams", "template"},
    "group": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams",
              "template"},
    "job": {"clusterSelector", "submissionMode", "activeDeadlineSeconds",
            "ttlSecondsAfterFinished", "entrypoint"},
}  # fmt: skip


def schema(kind):
    """The definition's schema, refusing keys that it has not, as `kubectl` does."""
    if not CRDS:
        pytest.skip("KMUNET_KUBERAY_CRDS names no folder with KubeRay's definitions")
    file = Path(CRDS) / f"ray.io_{kind.lower()}s.yaml"
    crd = yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    return strict(version["schema"]["openAPIV3Schema"])


def strict(node):
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize("item", [CLUSTER, JOB], ids=["RayCluster", "RayJob"])
def test_it_is_what_kuberay_takes(item):
    definition = schema(item["kind"])
    jsonschema.Draft202012Validator(definition).validate(item)
    broken = copy.deepcopy(item)
    broken["spec"]["rayVersoin"] = "2"
    with pytest.raises(jsonschema.ValidationError, match="rayVersoin"):
        jsonschema.Draft202012Validator(definition).validate(broken)


def test_only_known_fields_are_used():
    spec = CLUSTER["spec"]
    assert spec.keys() <= FIELDS["cluster"]
    assert spec["headGroupSpec"].keys() <= FIELDS["head"]
    for group in spec["workerGroupSpecs"]:
        assert group.keys() <= FIELDS["group"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for key in ("authOptions", "autoscalerOptions"):
        assert spec[key].keys() <= FIELDS[key]
    assert JOB["spec"].keys() <= FIELDS["job"]


def test_the_token_is_asked_for_and_comes_from_a_secret():
    assert CLUSTER["spec"]["authOptions"]["mode"] == "token"
    asked = CLUSTER["spec"]["authOptions"]["secretName"]
    worker = named(kubernetes(), "Deployment", "worker")["spec"]["template"]["spec"]
    (token,) = [
        each["valueFrom"]["secretKeyRef"]
        for each in worker["containers"][0]["env"]
        if each["name"] == "RAY_AUTH_TOKEN"
    ]
    assert token == {"name": asked, "key": "auth_token"}  # the key that KubeRay reads


def test_the_head_trains_nothing_and_the_job_runs_on_this_cluster():
    params = CLUSTER["spec"]["headGroupSpec"]["rayStartParams"]
    assert params["num-cpus"] == "0"
    name = CLUSTER["metadata"]["name"]
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": name}
