"""`python -m infra.local` with the real servers and a real worker."""

import os
import signal
import socket
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Scheduled
from small_project import gone, python

from infra.local import processes
from infra.local.services import Addresses, services

HANG = {"overrides": {"train.epochs": 500}}


@pytest.fixture(scope="module")
def client(stack):
    url = f"http://127.0.0.1:{stack.prefect_port}/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as api,
    ):
        yield api


@pytest.fixture(scope="module")
def minutely(client):
    """A deployment whose schedule fires every minute; made early, read last."""
    train = client.read_deployment_by_name("kmunet/train")
    return client.create_deployment(
        flow_id=train.flow_id,
        name="minutely",
        entrypoint=train.entrypoint,
        pull_steps=train.pull_steps,
        work_pool_name="kmunet",
        schedules=[{"schedule": CronSchedule(cron="* * * * *"), "active": True}],
        concurrency_limit=1,
        parameters={"datasets": ["nope"]},  # ends at once: an unknown data set
        parameter_openapi_schema=train.parameter_openapi_schema,
    )


def start(client, **parameters):
    deployment = client.read_deployment_by_name("kmunet/train")
    return client.create_flow_run_from_deployment(
        deployment.id, parameters=parameters, state=Scheduled()
    ).id


def until(condition, limit=120.0):
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)
    return found


def finished(client, run):
    def final():
        state = client.read_flow_run(run).state
        return state if state.is_final() else None

    return until(final)


def logs(client, run):
    log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    return [log.message for log in client.read_logs(log_filter, limit=200)]


def hanging(client, run):
    """Wait until train hangs; return its children's pids."""

    def children():
        lines = [line for line in logs(client, run) if line.startswith("hanging")]
        return [int(pid) for line in lines for pid in line.split()[1:]]

    return until(children)


def test_up_again_says_so(stack, minutely):
    done = stack.call("up")
    assert done.returncode == 0
    assert "already up" in done.stdout
    assert f"PREFECT_API_URL=http://127.0.0.1:{stack.prefect_port}/api" in done.stdout
    assert f"MLFLOW_TRACKING_URI=http://127.0.0.1:{stack.mlflow_port}" in done.stdout
    assert "prefect deployment run 'kmunet/train'" in done.stdout
    assert stack.call("status").returncode == 0


def test_the_deployments_are_declared(client):
    train = client.read_deployment_by_name("kmunet/train")
    assert train.schedules == []
    assert train.global_concurrency_limit is None  # data sets have limits of their own
    for name, cron in (("nightly", "0 2 * * *"), ("weekly", "0 6 * * 0")):
        found = client.read_deployment_by_name(f"{name}/{name}")
        assert [s.schedule.cron for s in found.schedules] == [cron]
        assert found.global_concurrency_limit.limit == 1
    remote = client.read_deployment_by_name("kmunet/remote")
    assert remote.parameters == {"share": True}
    for name in ("kmunet/train", "backfill/backfill", "sweep/sweep"):
        found = client.read_deployment_by_name(name)
        described = found.parameter_openapi_schema["properties"]
        assert all(parameter["description"] for parameter in described.values())
    assert set(train.parameter_openapi_schema["properties"]) == {
        *("datasets", "overrides", "raw", "force", "version"),
        *("share", "hours", "stage_hours"),
    }


def test_a_run_can_be_read_back(client, stack):
    run = start(client, overrides={"train.lr": 0.25})
    assert finished(client, run).is_completed()
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    )
    stages = ("prepare", "split", "train", "evaluate", "register")
    names = {f"{stage}@synthetic" for stage in stages}
    assert {task.name for task in tasks} == {*names, "synthesize"}
    assert {task.state.name for task in tasks} == {"Completed"}
    assert until(lambda: "epoch 2" in logs(client, run))  # sent in batches
    keys = {a.key for a in client.read_artifacts() if a.flow_run_id == run}
    assert keys == {"kmunet-results", "kmunet-report"}
    name = client.read_flow_run(run).name
    report = stack.root / "runs" / name / "synthetic" / "report" / "report.html"
    assert report.exists()


def test_a_failure_is_a_message_without_a_traceback(client):
    run = start(client, overrides={"train.epochs": 13})
    state = finished(client, run)
    assert state.name == "Failed"
    assert "error: train: train.epochs: 13 is unlucky" in state.message
    assert not any("Traceback" in line for line in logs(client, run))


def test_parameters_are_checked_before_a_run_is_made(client):
    with pytest.raises(Exception, match="datasets"):
        start(client, datasets="busi")
    with pytest.raises(Exception, match=r"train\.lr"):
        start(client, overrides={"train.lr": {"no": "scalar"}})


def test_cancelling_ends_every_process_and_frees_the_slot(client, stack):
    run = start(client, **HANG)
    children = hanging(client, run)
    assert len(children) == 2
    client.set_flow_run_state(run, Cancelling())
    assert gone(children, limit=10.0)
    assert finished(client, run).is_cancelled()
    assert not list((stack.root / ".kmunet" / "workspaces").iterdir())
    assert finished(client, start(client)).is_completed()


def test_a_run_that_died_with_its_worker_does_not_block_the_next(client, stack):
    run = start(client, **HANG)
    children = hanging(client, run)
    worker = processes.find("worker", stack.root / ".kmunet" / "local")
    engine = psutil.Process(children[0])
    while "prefect.engine" not in engine.cmdline():
        engine = engine.parent()
    os.kill(worker.pid, signal.SIGKILL)
    engine.kill()
    assert gone(children)
    assert stack.call("status").returncode == 1
    assert stack.up().returncode == 0
    assert client.read_flow_run(run).state.is_crashed()
    assert finished(client, start(client)).is_completed()


def test_a_schedule_fires(client, minutely):
    deployments = DeploymentFilter(name=DeploymentFilterName(any_=["minutely"]))

    def fired():
        runs = client.read_flow_runs(deployment_filter=deployments)
        # A run that went on while its worker was killed above has crashed with it.
        return [run for run in runs if run.state.is_failed() and run.auto_scheduled]

    run = until(fired, limit=150)[0]
    assert "unknown data set 'nope'" in run.state.message
    late = run.start_time - run.expected_start_time
    assert late < timedelta(seconds=60)
    assert run.start_time < datetime.now(UTC)


def test_runs_of_both_ways_are_seen_by_the_server(stack):
    """What is logged straight into the database, the server finds, and the reverse."""
    code = """
import sys, mlflow
from pathlib import Path
from pipelines.tracking import Registry
server = sys.argv[1]
registry = Registry(Path.cwd(), "direct")
with mlflow.start_run() as direct:
    mlflow.log_text("one", "one.txt")
mlflow.set_tracking_uri(server)
mlflow.set_experiment("served")
with mlflow.start_run() as served:
    mlflow.log_text("two", "two.txt")
assert mlflow.artifacts.load_text(f"runs:/{direct.info.run_id}/one.txt") == "one"
mlflow.set_tracking_uri(registry.uri)
assert mlflow.artifacts.load_text(f"runs:/{served.info.run_id}/two.txt") == "two"
assert registry.uri.startswith("sqlite:///")
"""
    url = f"http://127.0.0.1:{stack.mlflow_port}"
    done = python(stack.root, "-c", code, url)
    assert done.returncode == 0, done.stderr


def test_a_port_in_use_is_named_and_nothing_stays(project):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = python(project, "-m", "infra.local", "up", "--mlflow-port", str(port))
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "--mlflow-port" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert python(project, "-m", "infra.local", "status").returncode == 1
    assert "nothing" in python(project, "-m", "infra.local", "down").stdout


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it outlives its Popen
def test_a_service_that_dies_while_starting_shows_its_log(project):
    service = services(project, Addresses(1, 2))[0]
    broken = type(service)(
        name="broken",
        command=(service.command[0], "-c", "print('out of luck'); exit(3)"),
        env={},
        ready=lambda: False,
    )
    folder = project / ".kmunet" / "local"
    record = processes.start(broken, folder)
    with pytest.raises(processes.ServiceError, match="out of luck"):
        processes.wait(broken, record, folder, limit=30)


def test_down_ends_only_its_own(project):
    """A record whose pid belongs to another process by now ends nothing."""
    folder = project / ".kmunet" / "local"
    folder.mkdir(parents=True)
    record = f'{{"name": "worker", "pid": {os.getpid()}, "created": 1.0, "port": null}}'
    (folder / "worker.json").write_text(record)
    assert processes.find("worker", folder) is None
    assert not processes.stop("worker", folder)


def test_down_ends_servers_worker_and_run(client, stack):
    run = start(client, **HANG)
    children = hanging(client, run)
    folder = stack.root / ".kmunet" / "local"
    pids = [processes.find(n, folder).pid for n in ("prefect", "mlflow", "worker")]
    done = stack.call("down")
    assert done.returncode == 0
    assert "stopped: worker, mlflow, prefect" in done.stdout
    assert gone([*pids, *children], limit=5.0)
    assert not list((stack.root / ".kmunet" / "workspaces").iterdir())
