"""The flow `weekly`: the champion on the test images of today; drift is told.

The numbers and the rule are those of pipelines/reevaluate.py.
"""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.ask import Answer, ask
from flows.limits import Limits, NoTurnError, make_limits
from flows.main import reach_services
from flows.notify import notify, tell_failure
from flows.plan import Plan, make_plan
from flows.preparation import prepare
from flows.slots import slot
from flows.workspace import workspace
from kmunet.errors import KMUNetError


@flow(
    name="weekly",
    persist_result=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def weekly(datasets: list[str] | None = None, hours: float | None = None) -> State[Any]:
    """Re-evaluate the champion of each data set; say where it or its inputs drifted.

    One that cannot be looked at stops no other; the run then fails at its end.

    Args:
        datasets: Names under `sources` in params.yaml. Default: its `datasets`.
        hours: After so many the run is ended.
    """
    try:
        reach_services()
        limits = make_limits(hours, None)
        plan = make_plan(datasets, None, None, force=False)
        answers = _answers(plan, limits, flow_run.get_name() or "run")
    except KMUNetError as error:
        return Failed(message=str(error))
    except NoTurnError as error:
        return Failed(name="TimedOut", message=f"{error}; raise hours")
    return _verdict(answers)


def _answers(plan: Plan, limits: Limits, name: str) -> dict[str, Answer]:
    log, answers = get_run_logger().info, {}
    with workspace(plan, name, log, limits.left()) as root:
        for dataset in plan.datasets:
            try:
                with slot(dataset, log, limits.left()):
                    answers[dataset] = _look(limits, root, dataset)
            except NoTurnError as error:
                words = f"{error}; raise hours"
                answers[dataset] = Answer(Failed(name="TimedOut", message=words))
                break  # nor is there time for the others
    return answers


def _look(limits: Limits, root: Path, dataset: str) -> Answer:
    state = prepare(root, dataset, limits)
    if not state.is_completed():
        return Answer(state)
    return ask("reevaluate", dataset, root, limit=limits.left())


def _verdict(answers: dict[str, Answer]) -> State[Any]:
    """Drift is told whatever became of the other data sets."""
    failed = [a.state for a in answers.values() if not a.state.is_completed()]
    found = {name: a.found for name, a in answers.items() if a.state.is_completed()}
    drifted = _tell(found) if found else []
    if failed:
        said = [state.message or str(state.name) for state in failed]
        return Failed(name=str(failed[0].name), message="\n".join(said))
    words = "\n".join(f"{name}: {answer['why']}" for name, answer in found.items())
    return Completed(name="Drift" if drifted else "Completed", message=words)


def _tell(found: dict[str, dict[str, Any]]) -> list[str]:
    """Write the table, send a message for each that drifted; return their names."""
    rows = [
        {"data set": name, "drift": answer["drift"], "why": answer["why"]}
        for name, answer in found.items()
    ]
    create_table_artifact(table=rows, key="kmunet-drift", description="The champions")
    drifted = [name for name, answer in found.items() if answer["drift"]]
    for name in drifted:
        why, warn = str(found[name]["why"]), get_run_logger().warning
        notify(f"kmunet: {name} has drifted", why, warn)
    return drifted
