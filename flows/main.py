"""The flow `kmunet`: data sets through prepare, split, train, evaluate and register.

Plain call, no server: `python -m flows.main --dataset synthetic`. As a deployment:
prefect.yaml, `make up`. Here is only what runs when; DVC decides what is stale.
"""

from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from flows.embedded import embed

    embed()  # Prefect reads its settings once, when it is imported

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import artifacts
from flows.downloads import downloaded
from flows.failures import quieten
from flows.pipeline import addresses
from flows.plan import Plan, make_plan
from flows.results import Result, read_metrics, standing
from flows.secrets import load_secrets
from flows.stages import run_stage
from flows.workspace import publish, workspace
from kmunet.errors import KMUNetError
from pipelines import profile
from pipelines.overrides import Value
from pipelines.paths import Paths

quieten()


@flow(name="kmunet", persist_result=False)
def kmunet(
    datasets: list[str] | None = None,
    overrides: dict[str, Value] | None = None,
    raw: dict[str, str] | None = None,
    force: bool = False,
) -> list[Result] | State[Any]:
    """Train, evaluate and register one model a data set, redoing nothing up to date.

    Args:
        datasets: Names under `sources` in params.yaml. Default: its `datasets`.
        overrides: Values for this run alone, by dotted key of params.yaml, as in
            {"train.epochs": 2}. The run then works in a workspace of its own, and
            its results go to runs/<name of the run>/.
        raw: Where a data set's download lies: an archive or a folder on the worker's
            machine, or its URL, as in {"busi": "s3://bucket/Dataset_BUSI.zip"}.
            Default: data/raw/.
        force: Run every stage again, up to date or not.
    """
    try:
        _reach_services()
        plan = make_plan(datasets, overrides, raw, force)
        plan = downloaded(plan, get_run_logger().info)
        return _run(plan, flow_run.get_name() or "run")
    except KMUNetError as error:
        return Failed(message=str(error))


def _reach_services() -> None:
    """Addresses from the profile and secrets from blocks, for this run's stages."""
    profile.apply()
    if names := load_secrets():
        get_run_logger().info("from Prefect blocks: %s", ", ".join(names))


def _run(plan: Plan, name: str) -> list[Result] | State[Any]:
    results, failures = [], []
    with workspace(plan, name, get_run_logger().info) as root:
        for dataset in plan.datasets:
            states = _run_stages(plan, root, dataset)
            last = list(states.values())[-1]
            if last.is_completed():
                results.append(_result(plan, root, name, dataset, states))
            else:
                failures.append(last.message or f"{dataset}: {last.name}")
    if results:
        artifacts.create(results)
    return Failed(message="\n".join(failures)) if failures else results


def _run_stages(plan: Plan, root: Path, dataset: str) -> dict[str, State[Any]]:
    """Run the stages of one data set up to the first that fails."""
    states: dict[str, State[Any]] = {}
    for address in addresses(root, dataset, given=dataset in plan.raw):
        states[address] = run_stage(address, root, force=plan.force)
        if not states[address].is_completed():
            break
    return states


def _result(
    plan: Plan, root: Path, name: str, dataset: str, states: dict[str, State[Any]]
) -> Result:
    paths = Paths(root, dataset)
    report, model = paths.report, paths.model
    if plan.private:
        kept = publish(plan, root, name, dataset)
        report, model = kept / "report", kept / "model"
    return Result(
        dataset=dataset,
        stages={address: str(state.name) for address, state in states.items()},
        report=report,
        model=model,
        metrics=read_metrics(paths.metrics),
        standing=standing(plan.root, paths.registration),
    )


if __name__ == "__main__":
    from flows.cli import main

    raise SystemExit(main(kmunet))
