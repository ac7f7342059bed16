"""The stack of `make up`: its servers seen by the doctor, its blocks by a flow."""

import asyncio
import json

from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_project import python

from flows.secrets import block_name, load_secrets


def addresses(stack):
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{stack.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{stack.mlflow_port}",
    }


def test_the_doctor_finds_all_of_it(stack):
    done = python(stack.root, "-m", "infra.doctor", "--json", **addresses(stack))
    found = {f["name"]: f for f in json.loads(done.stdout)}
    names = ("mlflow", "prefect", "worker", "clock", "ports")
    assert {name: found[name]["level"] for name in names} == dict.fromkeys(names, "ok")
    assert "local in the pool 'kmunet'" in found["worker"]["text"]
    assert f"prefect runs on {stack.prefect_port}" in found["ports"]["text"]


def test_secrets_come_from_its_blocks(stack):
    environ = addresses(stack)
    with temporary_settings({PREFECT_API_URL: environ["PREFECT_API_URL"]}):
        assert load_secrets(environ) == []
        saved = Secret(value="hunter2").save(block_name("RAY_AUTH_TOKEN"))
        if asyncio.iscoroutine(saved):
            asyncio.run(saved)
        assert load_secrets(environ) == ["RAY_AUTH_TOKEN"]
        assert environ["RAY_AUTH_TOKEN"] == "hunter2"
        Secret.delete(block_name("RAY_AUTH_TOKEN"))
