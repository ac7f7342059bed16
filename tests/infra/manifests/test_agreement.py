"""What is written in several deployment files is the same in each."""

import re
from urllib.parse import urlsplit

import pytest
import yaml
from deployment_files import INFRA, compose, container, kubernetes, named, pinned, units

import kmunet
from flows.secrets import GROUPS
from infra.buckets import buckets
from infra.local.services import POOL
from pipelines.profile import VARIABLES, chosen

CLUSTER = chosen("cluster", {})
SERVICES = compose()["services"]
SECRETS = {name for group in GROUPS for name in group} | {"PREFECT_API_AUTH_STRING"}
NODE_SECRETS = SECRETS - {"PREFECT_API_AUTH_STRING"}  # Ray's: they call no Prefect


def kustomized():
    files = [INFRA / "kubernetes" / name / "kustomization.yaml"
             for name in ("base", "cpu", "gpu")]  # fmt: skip
    return [yaml.safe_load(f.read_text("utf-8")) for f in files]


def names(part):
    """Environment variables that a container of Kubernetes gets."""
    return {each["name"] for each in container(part)["env"]}


def test_ray_has_one_version():
    assert (
        named(kubernetes(), "RayCluster", "ray")["spec"]["rayVersion"]
        == pinned()["ray"]
    )


def test_our_images_have_the_packages_version():
    tags = [SERVICES[name]["image"] for name in ("worker", "mlflow")]
    tags += [f"x:{image['newTag']}" for file in kustomized() for image in file["images"]
             if image["name"].startswith("kmunet")]  # fmt: skip
    for file in (INFRA / "ray").glob("*.yaml"):
        tags.append(yaml.safe_load(file.read_text("utf-8"))["docker"]["image"])
    versions = {re.sub("-(cpu|cuda)$", "", tag.rpartition(":")[2]) for tag in tags}
    assert versions == {kmunet.__version__}


def test_others_images_have_one_version():
    base = {image["name"]: image["newTag"] for image in kustomized()[0]["images"]}
    for service, image in (("postgres", "postgres"), ("s3", "seaweedfs")):
        assert SERVICES[service]["image"].rpartition(":")[2] == base[image]


def test_both_dockerfiles_start_from_one_python():
    bases = {
        re.search(r"^ARG BASE=(\S+)$", file.read_text("utf-8"), re.MULTILINE)[1]
        for file in (INFRA / "docker").glob("*.Dockerfile")
    }
    assert len(bases) == 1


@pytest.mark.parametrize(
    ("name", "key", "file"),
    [
        ("kmunet", "profiles.yaml", "profiles.yaml"),
        ("postgres", "databases.sql", "docker/databases.sql"),
        ("mlflow", "basic_auth.ini", "docker/basic_auth.ini"),
    ],
)
def test_config_maps_are_the_files(name, key, file):
    data = named(kubernetes(), "ConfigMap", name)["data"]
    assert data[key] == (INFRA / file).read_text("utf-8")


def addresses():
    return {
        key: urlsplit(value if "//" in value else f"//{value}")
        for key, value in CLUSTER.model_dump().items()
        if not value.startswith("s3://")
    }


@pytest.mark.parametrize("key", addresses())
def test_the_profiles_hosts_are_services(key):
    host, port = addresses()[key].hostname, addresses()[key].port
    text = " ".join(SERVICES[host]["command"])
    assert f"port={port}" in text
    if host == "ray-head":
        head = named(kubernetes(), "RayCluster", "ray")["spec"]["headGroupSpec"]
        assert head["headService"]["metadata"]["name"] == host
        ports = head["template"]["spec"]["containers"][0]["ports"]
        assert port in {each["containerPort"] for each in ports}
    else:
        service = named(kubernetes(), "Service", host)
        assert [each["port"] for each in service["spec"]["ports"]] == [port]


def test_the_pool_is_that_of_prefect_yaml():
    script = (INFRA / "docker" / "worker.sh").read_text("utf-8")
    start = dict(units()["kmunet-worker"])["ExecStart"]
    assert f"--pool {POOL} " in script
    assert f"--pool {POOL} " in start


@pytest.mark.parametrize("part", ["mlflow", "prefect", "s3"])
def test_servers_start_alike(part):
    assert SERVICES[part]["command"] == container(part)["args"]
    ours = SERVICES[part]["environment"].keys() - {"HEALTH", "AWS_DEFAULT_REGION"}
    assert names(part) - {"AWS_DEFAULT_REGION"} == ours


@pytest.mark.parametrize("part", ["mlflow", "prefect"])
def test_units_start_servers_as_containers_do(part):
    """But for where they listen and whom they call."""
    own = ("--host", "--allowed-hosts", "--cors-allowed-origins", "--backend-store-uri")
    start = dict(units()[f"kmunet-{part}"])["ExecStart"].split()[1:]
    assert [a for a in start if not a.startswith(own)] == [
        a for a in SERVICES[part]["command"][1:] if not a.startswith(own)
    ]


def test_who_runs_stages_has_the_profile_and_all_secrets():
    profile = {"KMUNET_PROFILE": "cluster"}
    for part in ("worker", "ray-head", "ray-worker"):
        given = SERVICES[part]["environment"]
        assert profile.items() <= given.items()
        assert given.keys() >= SECRETS
    for part in ("worker", "ray"):
        pods = [container("worker")] if part == "worker" else rays()
        for each in pods:
            given = {e["name"]: e.get("value") for e in each["env"]}
            assert profile.items() <= given.items()
            own = NODE_SECRETS - {"RAY_AUTH_TOKEN"}  # KubeRay sets it
            assert (SECRETS if part == "worker" else own) <= given.keys()
            mounts = {m["mountPath"] for m in each["volumeMounts"]}
            assert given["KMUNET_PROFILES"].rpartition("/")[0] in mounts


def rays():
    spec = named(kubernetes(), "RayCluster", "ray")["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [pod["template"]["spec"]["containers"][0] for pod in pods]


def test_nothing_that_a_profile_sets_is_set_beside_it():
    """It would win over the profile, and be forgotten there."""
    for part in ("worker", "ray-head", "ray-worker"):
        assert not SERVICES[part]["environment"].keys() & set(VARIABLES.values())
    for each in (container("worker"), *rays()):
        assert not {e["name"] for e in each["env"]} & set(VARIABLES.values())


def test_buckets_and_databases_are_made_for_those_who_use_them():
    text = " ".join(SERVICES["mlflow"]["command"])
    (artifacts,) = re.findall(r"s3://([\w-]+)", text)
    assert artifacts in buckets(CLUSTER)
    sql = (INFRA / "docker" / "databases.sql").read_text("utf-8")
    auth = (INFRA / "docker" / "basic_auth.ini").read_text("utf-8")
    prefect = SERVICES["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    used = set(re.findall(r"kmunet@postgres:5432/(\w+)", text + auth + prefect))
    assert used == set(re.findall(r"CREATE DATABASE (\w+);", sql))
    endpoint = SERVICES["mlflow"]["environment"]["MLFLOW_S3_ENDPOINT_URL"]
    assert endpoint == CLUSTER.s3_endpoint


def test_kubernetes_secrets_have_the_keys_of_the_example():
    example = (INFRA / "compose" / ".env.example").read_text("utf-8")
    keys = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    text = "".join(
        file.read_text("utf-8") for file in (INFRA / "kubernetes/base").glob("*.yaml")
    )
    used = set(re.findall(r"secretKeyRef: \{name: kmunet, key: (\w+)\}", text))
    assert used == keys - {"KMUNET_REPOSITORY", "RAY_AUTH_TOKEN"}
