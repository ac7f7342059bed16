"""Which Ray a driver is in: one of its own on this machine, or a team's cluster."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray

from kmunet.errors import ServiceError, UnavailableError, in_one_line
from pipelines.quiet import SETTINGS
from pipelines.ray_code import packed_code
from pipelines.ray_join import check_address, node_of

# For placing workers, not for starting them. Right after a node went, Ray may count on
# it still: so long it then waits before it counts again.
START_TIMEOUT = 10
TRAIN = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT),
    # Its controller takes one report at a time: at its own 2 s no epoch is shorter.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
}
# A process less: nobody takes a node away from its own driver.
EMBEDDED = {**TRAIN, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
QUIET: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
_left = ExitStack()  # what `shutdown` undoes


def connect(cpus: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one here with these CPUs.

    In a cluster workers run this driver's code, which is sent to them. Raises
    ConfigError for an address that cannot be one, ServiceError where none answers.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address and address != "local":
        _join(address)
    else:
        _embed(cpus)


def shutdown() -> None:
    """Leave the cluster, and end what this process started of it."""
    ray.shutdown()
    _left.close()


def this_node() -> dict[str, Any]:
    """Options of an actor that lives and dies with the driver's machine."""
    here = ray.get_runtime_context().get_node_id()
    return {"label_selector": {"ray.io/node-id": here}}


def _join(address: str) -> None:
    with ExitStack() as begun:
        options: dict[str, Any] = {}
        if address != "auto":
            check_address(address)
            options["_temp_dir"] = begun.enter_context(node_of(address))
        env = {**SETTINGS, **TRAIN, **_chosen()}
        runtime = {"env_vars": env, "working_dir": begun.enter_context(packed_code())}
        try:
            ray.init(address=address, runtime_env=runtime, **options, **QUIET)
        except (ConnectionError, RuntimeError) as error:
            away = isinstance(error, ConnectionError)
            kind = UnavailableError if away else ServiceError
            raise kind(f"RAY_ADDRESS is '{address}': {error}") from error
        _left.push(begun.pop_all())


def _embed(cpus: int) -> None:
    env = {**SETTINGS, **EMBEDDED, "PYTHONPATH": _python_path()}
    try:
        ray.init(
            num_cpus=max(os.cpu_count() or 1, cpus),
            include_dashboard=False,
            object_store_memory=200 * 2**20,
            runtime_env={"env_vars": env},
            **QUIET,
        )
    except Exception as error:
        if type(error) is not Exception:  # as Ray's own are of a node that is too slow
            raise
        raise UnavailableError(
            f"Ray did not start here: {in_one_line(error)} Where others keep this "
            "machine busy, run the same command again later"
        ) from error


def _chosen() -> dict[str, str]:
    """What nodes take from the driver: no address, which may be another there."""
    names = ("KMUNET_PROFILE", "KMUNET_STORAGE_PATIENCE")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _python_path() -> str:
    """The workspace first: a worktree's code runs, not the installed checkout's."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(Path.cwd()), *([inherited] if inherited else [])])
