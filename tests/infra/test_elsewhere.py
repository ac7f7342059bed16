"""`kmunet/remote`: fresh workers in empty folders, one S3 remote, real git.

Each has a home of its own, no checkout and no data.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled
from small_project import make_upstream

pytestmark = pytest.mark.slow
POOL = "elsewhere"
STAGES = {
    f"{s}@synthetic" for s in ("prepare", "split", "train", "evaluate", "register")
}
ALL = STAGES | {"synthesize"}


@pytest.fixture(scope="module")
def client(stack):
    url = f"http://127.0.0.1:{stack.prefect_port}/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as api,
    ):
        yield api


@pytest.fixture(scope="module")
def upstream(s3_server, tmp_path_factory):
    """A repository that says where its data are, and a bucket for them."""
    s3_server.put("remote", "there", b"")
    place = tmp_path_factory.mktemp("upstream")
    return make_upstream(place, "s3://remote/kmunet")


@pytest.fixture(scope="module")
def run(client, stack, upstream, s3_server, tmp_path_factory):
    """Run the deployment on a fresh machine; its state, tasks, logs and home."""
    deployed = client.read_deployment_by_name("kmunet/remote")
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    deployment = client.create_deployment(
        flow_id=deployed.flow_id,
        name="elsewhere",
        entrypoint=deployed.entrypoint,
        pull_steps=deployed.pull_steps,
        work_pool_name=POOL,
        parameters=deployed.parameters,
        parameter_openapi_schema=deployed.parameter_openapi_schema,
    )

    def call(**parameters):
        flow_run = client.create_flow_run_from_deployment(
            deployment, parameters=parameters, state=Scheduled()
        )
        home = tmp_path_factory.mktemp("machine")
        worker(home, stack, upstream, s3_server)
        return read(client, flow_run.id), home

    return call


def worker(home, stack, upstream, s3_server):
    """A worker of an empty folder, until it has done what is to be done."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    ours |= s3_server.env() | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{stack.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{stack.mlflow_port}",
        "KMUNET_REPOSITORY": upstream.as_uri(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ours.pop("PYTHONPATH", None)
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--run-once"]
    done = subprocess.run(
        [sys.executable, *command], cwd=home, env=ours, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def read(client, run):
    state = client.read_flow_run(run).state
    found = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    )
    log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    lines = [log.message for log in client.read_logs(log_filter, limit=200)]
    return state, {task.name: task.state.name for task in found}, lines


def test_what_one_machine_computed_no_other_computes_again(run, upstream, s3_server):
    (state, tasks, lines), home = run()
    assert state.is_completed(), (state.message, lines)
    assert tasks == dict.fromkeys(ALL, "Completed")
    assert any("a fresh clone" in line for line in lines)
    assert not list(home.glob("**/dvc.yaml"))  # the clone went with the run
    (state, tasks, _), home = run()
    assert state.is_completed(), state.message
    assert tasks == dict.fromkeys(ALL, "Cached")
    brought = [p for p in (home / ".cache/kmunet/dvc/files").rglob("*") if p.is_file()]
    assert len(brought) == 2  # metrics and registration: no data, no model
    (state, tasks, lines), _ = run(overrides={"train.lr": 0.5})
    assert state.is_completed(), (state.message, lines)
    kept = {name for name, how in tasks.items() if how == "Cached"}
    assert kept == {"synthesize", "prepare@synthetic", "split@synthetic"}
