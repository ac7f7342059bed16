"""The flow `backfill`: the pipeline over versions of the data, in order.

Each version runs in a workspace of its own with today's code and parameters; what DVC
has computed from the same inputs before is not computed again.
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.limits import make_limits
from flows.main import kmunet
from flows.notify import tell_failure
from flows.plan import make_plan
from flows.repository import toplevel
from kmunet.errors import ConfigError, KMUNetError
from pipelines.overrides import Value


@flow(
    name="backfill",
    persist_result=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def backfill(
    versions: list[str],
    datasets: list[str] | None = None,
    overrides: dict[str, Value] | None = None,
    share: bool = False,
    hours: float | None = None,
    stage_hours: dict[str, float] | None = None,
) -> Any:
    """Train, evaluate and register for each version; one that fails stops no other.

    Args:
        versions: Of the data that DVC tracks, in the order to run: git revisions,
            whose data/raw/*.dvc files are taken, or MD5s as those files have them.
        datasets: Names under `sources` in params.yaml. Default: its `datasets`.
        overrides: Values of params.yaml for these runs, by dotted key.
        share: Take and send results through the DVC remote.
        hours: After so many the run of a version is ended.
        stage_hours: The same for single stages, as in {"train": 12}.
    """
    try:
        toplevel(Path.cwd())
        make_limits(hours, stage_hours)
        if not versions:
            raise ConfigError("versions: empty; name at least one")
        for version in versions:  # all are checked before one runs
            make_plan(datasets, overrides, None, False, version, share)
    except KMUNetError as error:
        return Failed(message=str(error))
    states = {}
    for version in dict.fromkeys(versions):
        states[version] = kmunet.with_options(flow_run_name=f"backfill {version}")(
            datasets=datasets,
            overrides=overrides,
            version=version,
            share=share,
            hours=hours,
            stage_hours=stage_hours,
            return_state=True,
        )
    return _verdict(states)


def _verdict(states: dict[str, State[Any]]) -> State[Any]:
    rows = [{"version": v, **_row(state)} for v, state in states.items()]
    create_table_artifact(table=rows, key="kmunet-backfill", description="By version")
    said = "\n".join(f"{row['version']}: {row['result']}" for row in rows)
    if all(state.is_completed() for state in states.values()):
        return Completed(message=said)
    return Failed(message=said)


def _row(state: State[Any]) -> dict[str, str]:
    if not state.is_completed():
        return {"result": state.message or str(state.name)}
    results: Any = state.result()
    told = []
    for result in results:
        ran = [name for name, how in result.stages.items() if how != "Cached"]
        work = f"ran {', '.join(ran)}" if ran else "done before"
        told.append(f"{result.dataset} {work}; IoU {result.row()['IoU'] or 'unknown'}")
    return {"result": "; ".join(told)}
