"""One Prefect task a DVC stage: `dvc repro -s STAGE@DATASET` in a process of its own.

DVC decides whether there is work; the task says what came of it: Completed, Cached
(DVC skipped it or took it from its cache) or Failed with the stage's own message.
"""

from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import terminal
from flows.pipeline import DVC, environment
from flows.process import stream
from flows.transcript import ADVICE, Transcript


def run_stage(address: str, root: Path, *, force: bool) -> State[Any]:
    """Run one stage in the workspace `root` as a Prefect task; return its state."""
    named = stage_task.with_options(
        name=address.partition("@")[0], task_run_name=address
    )
    state: State[Any] = named(address, str(root), force, return_state=True)
    return state


@task(cache_policy=NO_CACHE, persist_result=False)
def stage_task(address: str, root: str, force: bool) -> State[Any]:
    """Call DVC for one stage, streaming its output to the task's log."""
    transcript = Transcript(get_run_logger().info)
    code = stream(
        [*DVC, "repro", "-s", *(["--force"] if force else []), address],
        cwd=Path(root),
        env=environment(Path(root)),
        on_line=transcript.add,
        echo=terminal.echo(until=ADVICE),
    )
    if code:
        return Failed(message=f"{address} failed. {transcript.message(code)}")
    if transcript.skipped:
        return Completed(name="Cached", message="nothing changed: no work done")
    return Completed(message="ran")
