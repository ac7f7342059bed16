"""The flow `nightly`: look whether the data changed; where they did, train and gate.

Imports (`dvc import-url`) are refreshed first; a URL given as `raw` is asked whether
it has something new. Then contents are compared, not dates.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.ask import Answer, ask
from flows.downloads import downloaded
from flows.main import kmunet, reach_services
from flows.notify import tell_failure
from flows.pipeline import dvc, source_stage
from flows.plan import Plan, make_plan
from flows.retries import patiently
from flows.stages import run_stage
from flows.tracked import tracked
from flows.workspace import held
from kmunet.errors import KMUNetError
from pipelines.overrides import Value

Log = Callable[[str], None]


@flow(
    name="nightly",
    persist_result=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def nightly(
    datasets: list[str] | None = None,
    overrides: dict[str, Value] | None = None,
    raw: dict[str, str] | None = None,
    hours: float | None = None,
    stage_hours: dict[str, float] | None = None,
) -> Any:
    """Train on the data sets whose data changed since their champion was trained.

    One that cannot be looked at stops no other; the run then fails at its end.

    Args:
        datasets: Names under `sources` in params.yaml. Default: its `datasets`.
        overrides: Values of params.yaml for the trainings, by dotted key.
        raw: Where a data set's download lies, as a path or a URL. Default: data/raw/,
            where what `dvc import-url` brought is refreshed.
        hours: After so many a training is ended; the next night goes on from there.
        stage_hours: The same for single stages, as in {"train": 6}.
    """
    log = get_run_logger().info
    try:
        reach_services()
        plan = make_plan(datasets, overrides, raw, force=False)
    except KMUNetError as error:
        return Failed(message=str(error))
    answers: dict[str, Answer] = {}
    for dataset in plan.datasets:
        try:
            plan = _downloaded(plan, dataset, log)
            answers[dataset] = _look(plan, dataset, log)
        except KMUNetError as error:
            answers[dataset] = Answer(Failed(message=str(error)))
    changed = [name for name, answer in answers.items() if answer.found.get("train")]
    if not changed:
        return _verdict(answers)
    trained = _train(plan, changed, overrides, hours, stage_hours)
    return _verdict(answers, trained)


def refresh(root: Path, dataset: str, log: Log) -> None:
    """Bring what changed at the source of each `dvc import-url`.

    The .dvc files then differ from git's: commit them to keep that version.
    """
    imports = [file for file in tracked(root, dataset) if _is_import(file)]
    if not imports:
        return
    with held(root / ".kmunet" / f"checkout-{dataset}.lock", log):
        for file in imports:
            name, before = str(file.relative_to(root)), file.read_bytes()
            patiently(partial(dvc, root, "update", name), log)
            if file.read_bytes() != before:
                log(f"{name}: the source has changed; commit the file to keep this")


def _is_import(file: Path) -> bool:
    known = yaml.safe_load(file.read_text(encoding="utf-8"))
    return bool(known.get("deps"))


def _downloaded(plan: Plan, dataset: str, log: Log) -> Plan:
    """The plan with the data of this one here, if a URL names them."""
    if dataset not in plan.remote:
        return plan
    own = replace(plan, remote={dataset: plan.remote[dataset]})
    return replace(
        patiently(lambda: downloaded(own, log), log),
        remote={name: url for name, url in plan.remote.items() if name != dataset},
    )


def _look(plan: Plan, dataset: str, log: Log) -> Answer:
    """Whether there is news, once the data are as new as their source."""
    if given := plan.raw.get(dataset):
        return ask("news", dataset, plan.root, "--raw", str(given))
    refresh(plan.root, dataset, log)
    if maker := source_stage(plan.root, dataset):
        state = run_stage(maker, plan.root, force=False)
        if not state.is_completed():
            return Answer(state)
    return ask("news", dataset, plan.root)


def _train(
    plan: Plan,
    datasets: list[str],
    overrides: dict[str, Value] | None,
    hours: float | None,
    stage_hours: dict[str, float] | None,
) -> State[Any]:
    given = {name: str(plan.raw[name]) for name in datasets if name in plan.raw}
    state: State[Any] = kmunet(
        datasets=datasets,
        overrides=overrides,
        raw=given or None,
        hours=hours,
        stage_hours=stage_hours,
        return_state=True,
    )
    return state


def _verdict(
    answers: dict[str, Answer], trained: State[Any] | None = None
) -> State[Any]:
    """Failed where a data set could not be looked at, whatever became of the others."""
    failed = [a.state for a in answers.values() if not a.state.is_completed()]
    if trained is not None and not failed:
        return trained
    if trained is not None and not trained.is_completed():
        failed.append(trained)
    if failed:
        said = [state.message or str(state.name) for state in failed]
        return Failed(message="\n".join(said))
    told = [str(answer.found["why"]) for answer in answers.values()]
    return Completed(name="Unchanged", message="; ".join(told))
