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
from flows.limits import Limits, NoTurnError, make_limits
from flows.notify import tell_failure
from flows.pipeline import addresses
from flows.plan import Plan, make_plan
from flows.results import Result, read_metrics, standing
from flows.retries import patiently
from flows.secrets import load_secrets
from flows.settle import settle
from flows.slots import slot
from flows.stages import run_stage
from flows.workspace import publish, workspace
from kmunet.errors import KMUNetError
from pipelines import profile
from pipelines.overrides import Value
from pipelines.paths import Paths

quieten()


@flow(
    name="kmunet",
    persist_result=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def kmunet(
    datasets: list[str] | None = None,
    overrides: dict[str, Value] | None = None,
    raw: dict[str, str] | None = None,
    force: bool = False,
    version: str | None = None,
    share: bool = False,
    hours: float | None = None,
    stage_hours: dict[str, float] | None = None,
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
        version: Of the data that DVC tracks: a git revision whose data/raw/*.dvc
            files are taken, or an MD5 as those files have it. The run then works in
            a workspace of its own. Default: the checkout's.
        share: Take what others computed from the DVC remote, and send there what
            is computed here. A checkout without an environment gets the one that
            this flow runs in.
        hours: After so many the run is ended, waiting for its turn included. A
            training saves its state, and the same run goes on from there.
        stage_hours: The same for single stages, as in {"train": 12}.
    """
    try:
        log = get_run_logger().info
        reach_services()
        if share:
            settle(log)
        limits = make_limits(hours, stage_hours)
        plan = make_plan(datasets, overrides, raw, force, version, share)
        plan = patiently(lambda: downloaded(plan, log), log)
        return _run(plan, limits, flow_run.get_name() or "run")
    except KMUNetError as error:
        return Failed(message=str(error))
    except NoTurnError as error:
        return Failed(name="TimedOut", message=f"{error}; raise hours")


def reach_services() -> None:
    """Addresses from the profile and secrets from blocks, for this run's stages."""
    profile.apply()
    if names := load_secrets():
        get_run_logger().info("from Prefect blocks: %s", ", ".join(names))


def _run(plan: Plan, limits: Limits, name: str) -> list[Result] | State[Any]:
    results, failures = [], []
    log = get_run_logger().info
    with workspace(plan, name, log, limits.left()) as root:
        for dataset in plan.datasets:
            with slot(dataset, log, limits.left()):
                states = _run_stages(plan, limits, root, dataset)
            last = list(states.values())[-1]
            if last.is_completed():
                results.append(_result(plan, root, name, dataset, states))
            else:
                failures.append(last)
    if results:
        artifacts.create(results)
    if not failures:
        return results
    said = [state.message or str(state.name) for state in failures]
    return Failed(name=str(failures[0].name), message="\n".join(said))


def _run_stages(
    plan: Plan, limits: Limits, root: Path, dataset: str
) -> dict[str, State[Any]]:
    """Run the stages of one data set up to the first that fails."""
    states: dict[str, State[Any]] = {}
    for address in addresses(root, dataset, given=dataset in plan.raw):
        states[address] = run_stage(
            address,
            root,
            force=plan.force,
            share=plan.share,
            limit=limits.of(address),
        )
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
