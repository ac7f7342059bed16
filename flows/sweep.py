"""The flow `sweep`: `kmunet sweep` on demand, with what it needs prepared first."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.limits import Limits, NoTurnError, make_limits
from flows.main import reach_services
from flows.notify import tell_failure
from flows.plan import Plan, make_plan
from flows.preparation import prepare
from flows.slots import slot
from flows.stages import run_command
from flows.workspace import workspace
from kmunet.config import load_params
from kmunet.errors import ConfigError, KMUNetError
from pipelines.as_prepared import check_given, how_to_prepare
from pipelines.overrides import Value, expand, overridden


@flow(
    name="sweep",
    persist_result=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def sweep(
    dataset: str,
    folds: int | None = None,
    seeds: list[int] | None = None,
    search: dict[str, Any] | None = None,
    trials: int = 16,
    scheduler: Literal["asha", "none"] = "asha",
    overrides: dict[str, Value] | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    hours: float | None = None,
) -> State[Any]:
    """Train over folds and seeds, or search hyper-parameters; the same goes on.

    Args:
        dataset: A name among `datasets` in params.yaml.
        folds: Default: split.folds of params.yaml.
        seeds: Default: train.seed.
        search: Keys of params.yaml with the values to try, as in
            {"train.lr": {"loguniform": [1.0e-4, 1.0e-2]}} (docs/training.md).
            Default: folds.
        trials: Of a search.
        scheduler: Of a search.
        overrides: Values of params.yaml for all trials, by dotted key.
        cpus: Of Ray's for a trial. Default: train.threads.
        gpus: The same for GPUs, as in 0.25.
        hours: After so many it is ended; the same sweep goes on from there.
    """
    try:
        reach_services()
        limits = make_limits(hours, None)
        plan = make_plan([dataset], None, None, force=False)
        if plan.private:
            raise ConfigError(
                f"dataset: {dataset} is not among `datasets` of params.yaml: add it"
            )
        path = plan.root / "params.yaml"
        params = overridden(path, expand(path, overrides or {}))
        check_given(load_params(path), params, dataset, how_to_prepare(params, dataset))
        command = _command(dataset, folds, seeds, overrides, cpus, gpus)
        with tempfile.TemporaryDirectory(prefix="kmunet-") as folder:
            if search is not None:
                space = Path(folder) / "space.yaml"
                space.write_text(yaml.safe_dump(search), encoding="utf-8")
                command += ["--search", str(space), "--trials", str(trials),
                            "--scheduler", scheduler]  # fmt: skip
            return _run(plan, limits, dataset, command)
    except KMUNetError as error:
        return Failed(message=str(error))
    except NoTurnError as error:
        return Failed(name="TimedOut", message=f"{error}; raise hours")


def _run(plan: Plan, limits: Limits, dataset: str, command: list[str]) -> State[Any]:
    log = get_run_logger().info
    left = limits.left()
    with workspace(plan, "sweep", log, left) as root, slot(dataset, log, left):
        state = prepare(root, dataset, limits)
        if state.is_completed():
            state = run_command(f"sweep@{dataset}", command, root, limit=limits.left())
    if not state.is_completed():
        return Failed(name=state.name, message=state.message)
    return Completed(message="the report is in runs/; the trials are in MLflow")


def _command(
    dataset: str,
    folds: int | None,
    seeds: list[int] | None,
    overrides: dict[str, Value] | None,
    cpus: float | None,
    gpus: float | None,
) -> list[str]:
    command = [sys.executable, "-m", "kmunet.cli", "sweep", dataset]
    for option, value in {"--folds": folds, "--cpus": cpus, "--gpus": gpus}.items():
        command += [] if value is None else [option, str(value)]
    if seeds:
        command += ["--seeds", *map(str, seeds)]
    for key, given in (overrides or {}).items():
        command += ["--set", f"{key}={json.dumps(given)}"]
    return command
