"""The whole stack, real: what it says, who may in, where it listens, what it hides."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

import boto3
import leaks
import psutil
import psycopg2
import pytest
from botocore.exceptions import ClientError
from small_project import python

from infra.cluster import clients, postgres
from infra.cluster.place import BUCKETS
from infra.doctor.request import ask
from infra.local import processes


@pytest.fixture(scope="session")
def run(cluster):
    """A flow run of the deployment; its id."""
    done = cluster.python(
        *("-m", "prefect", "deployment", "run", "kmunet/train"),
        *("--param", 'overrides={"train.lr": 0.25}'),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("UUID: ")[2].split()[0]


def prefect(cluster, path, body=None):
    headers = clients.prefect_headers(cluster.stack.secrets)
    answer = ask(f"{cluster.stack.api}/{path}", headers, body)
    assert answer.status in (200, 201), answer
    return answer.json()


def test_up_again_says_so_and_where(cluster, run):
    done = cluster.call("up", "--s3-port", "9999")
    assert done.returncode == 2
    assert "another s3: `make cluster-down` first" in done.stderr
    done = cluster.up()
    assert done.returncode == 0, done.stderr
    assert "already up" in done.stdout
    assert cluster.stack.settings.url("prefect") in done.stdout
    assert "source .kmunet/cluster/env.sh" in done.stdout
    assert not leaks.held(cluster.stack.secrets, done.stdout)
    assert cluster.call("status").returncode == 0


SERVICES = ("profile", "dvc cache", "dvc remote", "checkpoints", "ray", "mlflow",
            "prefect", "worker", "clock")  # fmt: skip


def test_the_doctor_finds_nothing_wrong(cluster):
    for _ in range(3):  # its checks have limits of time, and others may use the cores
        done = cluster.python("-m", "infra.doctor", "--json")
        found = {f["name"]: f for f in json.loads(done.stdout)}
        if "no answer within" not in done.stdout:
            break
    assert {name: found[name]["level"] for name in SERVICES} == dict.fromkeys(
        SERVICES, "ok"
    ), found
    assert "cluster in the pool 'kmunet'" in found["worker"]["text"]
    nodes = max(1, cluster.stack.settings.nodes)
    assert f"{nodes} node(s)" in found["ray"]["text"]
    assert "s3://kmunet-dvc/cache can be listed" in found["dvc remote"]["text"]


def test_a_deployment_runs_and_no_secret_is_anywhere(cluster, run):
    deadline = time.monotonic() + 180
    while (state := prefect(cluster, f"flow_runs/{run}")["state"])["type"] not in (
        "COMPLETED", "FAILED", "CRASHED",
    ):  # fmt: skip
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert state["type"] == "COMPLETED", state
    place, secrets = cluster.place, cluster.stack.secrets
    asked = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    logs = prefect(cluster, "logs/filter", asked)
    assert any("Finished in state" in log["message"] for log in logs)
    assert not leaks.held(secrets, json.dumps(logs))
    assert not leaks.held(secrets, json.dumps(prefect(cluster, "admin/settings")))
    assert not leaks.in_arguments(secrets)
    kept = {place.secrets, place.env, place.ray_token}
    kept |= {place.pgpass(role) for role in postgres.ROLES}
    assert not leaks.in_files(secrets, cluster.root / ".kmunet", kept)
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert not leaks.in_repository(secrets, cluster.root)
    for role in postgres.ROLES:
        uri = postgres.uri(cluster.stack.settings, role)
        assert not leaks.in_database(secrets, uri, place.pgpass(role))


def test_postgres_refuses_who_has_no_or_another_password(cluster):
    settings, place = cluster.stack.settings, cluster.place
    for role, other in (("mlflow", "prefect"), ("prefect", "mlflow")):
        psycopg2.connect(
            postgres.uri(settings, role), passfile=str(place.pgpass(role))
        ).close()
        for uri in (
            postgres.uri(settings, role),
            postgres.uri(settings, role).replace("@", ":wrong@"),
            postgres.uri(settings, role).replace(f"/{role}", f"/{other}"),
            f"postgresql://postgres@{settings.at('postgres')}/postgres",
        ):
            with pytest.raises(psycopg2.OperationalError):
                psycopg2.connect(uri, passfile=os.devnull)


def test_s3_refuses_who_has_no_or_another_key(cluster):
    secrets = cluster.stack.secrets

    def listed(key, secret):
        client = boto3.client(
            "s3", endpoint_url=cluster.stack.settings.url("s3"),
            aws_access_key_id=key, aws_secret_access_key=secret, region_name="x",
        )  # fmt: skip
        return {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}

    assert listed(secrets.s3_key, secrets.s3_secret) == set(BUCKETS)
    for pair in ((secrets.s3_key, "wrong"), ("wrong", secrets.s3_secret)):
        with pytest.raises(ClientError, match=r"InvalidAccessKeyId|SignatureDoes"):
            listed(*pair)
    url = cluster.stack.settings.url("s3")
    assert ask(f"{url}/{BUCKETS[0]}?list-type=2").status in (400, 403)  # no signature


@pytest.mark.parametrize(
    ("server", "path", "body"),
    [
        ("mlflow", "/api/2.0/mlflow/experiments/search", {"max_results": 1}),
        ("mlflow", "/api/2.0/mlflow-artifacts/artifacts", None),
        ("mlflow", "/graphql", {"query": "{ __typename }"}),
        ("mlflow", "/", None),
        ("prefect", "/api/admin/version", None),
        ("prefect", "/api/flow_runs/filter", {}),
        ("prefect", "/api/block_documents/filter", {}),
        ("dashboard", "/api/cluster_status", None),
        ("dashboard", "/api/jobs/", None),
    ],
)
def test_servers_refuse_requests_without_a_password(cluster, server, path, body):
    url = f"{cluster.stack.settings.url(server)}{path}"
    for headers in ({}, {"Authorization": "Basic YWRtaW46YWRtaW4="}):
        assert ask(url, headers, body).status in (401, 403)


def test_ray_refuses_a_driver_without_its_token(cluster):
    address = cluster.stack.settings.at("ray")
    for token in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        done = python(cluster.root, "-m", "pipelines.ray_probe", address, **token)
        assert done.returncode
        assert "Auth" in done.stderr or "token" in done.stderr


def test_servers_listen_where_they_were_told_alone(cluster):
    if not cluster.stack.settings.nodes:
        pytest.skip("Ray without namespaces listens on all addresses")
    listening = set()
    for name in ("postgres", "s3", "mlflow", "prefect"):
        process = psutil.Process(processes.find(name, cluster.place.folder).pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's come and go
                listening |= {
                    connection.laddr.ip
                    for connection in member.net_connections()
                    if connection.status == psutil.CONN_LISTEN
                }
    assert listening == {cluster.stack.settings.host}


def test_up_restarts_what_died_and_nothing_else(cluster, run):
    before = cluster.records()
    for name in ("postgres", "s3"):
        os.killpg(processes.find(name, cluster.place.folder).pid, signal.SIGKILL)
    while any(cluster.records()[name] for name in ("postgres", "s3")):
        time.sleep(0.1)
    assert "not running" in cluster.call("status").stdout
    done = cluster.call("up")
    assert done.returncode == 0, done.stderr
    ready = [line for line in done.stdout.splitlines() if line.endswith("is ready")]
    assert ready == ["postgres is ready", "s3 is ready"]
    after = cluster.records()
    changed = {name for name in before if "pid" in before[name]
               and before[name] != after[name]}  # fmt: skip
    assert changed == {"postgres", "s3"}
    assert prefect(cluster, f"flow_runs/{run}")["id"] == run  # what it knew, it knows


def test_clients_see_the_profile_alone(cluster):
    """The servers' addresses come the way of any cluster's: by KMUNET_PROFILES."""
    env = {k: v for k, v in cluster.env.items() if k.startswith("KMUNET_PROFILE")}
    told = subprocess.run(
        [sys.executable, "-m", "pipelines.profile"],
        env={**env, "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for line in told.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        assert cluster.env[name] == value.strip("'")
    assert not leaks.held(cluster.stack.secrets, told)
