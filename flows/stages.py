"""One Prefect task a DVC stage: `dvc repro -s STAGE@DATASET` in a process of its own.

DVC decides whether there is work; the task says what came of it: Completed, Cached
(DVC skipped it or took it from its cache), Failed with the stage's own message,
Unavailable (a server is away: tried again, see retries.py) or TimedOut.
"""

import sys
import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import dvc_lock, retries, terminal
from flows.notify import notify
from flows.pipeline import DVC, environment
from flows.process import TimeLimitError, stream
from flows.transcript import ADVICE, Transcript

SHARED = (sys.executable, "-m", "flows.shared_cache")


def run_stage(
    address: str,
    root: Path,
    *,
    force: bool,
    share: bool = False,
    limit: float | None = None,
) -> State[Any]:
    """Run one stage in the workspace `root` as a Prefect task; return its state.

    share: what others computed is taken from the DVC remote, and ours sent there.
    limit: seconds that it may take, all tries together.
    """
    options = ["--force"] if force else []
    command = [*SHARED, *options] if share else [*DVC, "repro", "-s", *options]
    return run_command(address, [*command, address], root, limit=limit)


def run_command(
    address: str, command: list[str], root: Path, *, limit: float | None = None
) -> State[Any]:
    """Run a command as the Prefect task `address`; return its state."""
    end = None if limit is None else time.monotonic() + limit
    named = command_task.with_options(
        name=address.partition("@")[0],
        task_run_name=address,
        retries=len(retries.DELAYS),
        retry_delay_seconds=retries.DELAYS,
    )
    state: State[Any] = named(address, command, str(root), end, return_state=True)
    return state


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=retries.may_pass,
    retry_jitter_factor=retries.JITTER,
)
def command_task(
    address: str, command: list[str], root: str, end: float | None
) -> State[Any]:
    """Call a command, streaming its output to the task's log, until time is up."""
    transcript = Transcript(get_run_logger().info)
    dvc_lock.mend(Path(root), get_run_logger().info)
    try:
        code = stream(
            command,
            cwd=Path(root),
            env=environment(Path(root)),
            on_line=transcript.add,
            echo=terminal.echo(until=ADVICE),
            limit=None if end is None else max(end - time.monotonic(), 0.0),
        )
    except TimeLimitError:
        return Failed(name="TimedOut", message=_out_of_time(address))
    for line in transcript.promotions:
        title = f"kmunet: {address.partition('@')[2]} has a new champion"
        notify(title, line, get_run_logger().warning)
    if code:
        name = retries.UNAVAILABLE if transcript.may_pass(code) else "Failed"
        message = f"{address} failed. {transcript.message(code)}"
        return Failed(name=name, message=message)
    if transcript.skipped:
        return Completed(name="Cached", message="nothing changed: no work done")
    return Completed(message="ran")


def _out_of_time(address: str) -> str:
    return (
        f"{address} was ended: the time of hours or stage_hours is up. A training has "
        "saved its state, and the same run goes on from there; raise them if it needs "
        "more"
    )
