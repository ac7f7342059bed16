"""Runs, one after another, a process each: memory and CPU time are its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kmunet.data.locked import locked
from kmunet.errors import TrainingError
from pipelines.comparison.request import Run

_PATIENCE = 60  # seconds in which a run that is told to stop saves
Listen = Callable[[Run, dict[str, Any]], None]


@dataclass(frozen=True)
class Result:
    """What a run took, and the test images scored, in the order of the packed set."""

    run: Run
    facts: dict[str, Any]  # training.json
    table: list[dict[str, Any]]  # a row an image, with its `row` in the packed set


def results(runs: Sequence[Run], listen: Listen) -> list[Result]:
    """Train and score what is not done yet; `listen` hears how far it is.

    Raises TrainingError with what a run says. Whatever was finished stays; a run that
    was interrupted goes on from its last checkpoint.
    """
    found = []
    for run in runs:
        if not finished(run):
            run.folder.mkdir(parents=True, exist_ok=True)
            lock = run.folder.with_suffix(".lock")
            with locked(lock, lambda run=run: listen(run, {"waiting": True})):  # type: ignore[misc]
                if not finished(run):
                    _do(run, listen)
        found.append(_read(run))
        listen(run, {"done": found[-1]})
    return found


def finished(run: Run) -> bool:
    """Whether nothing is left to do."""
    return (run.folder / "training.json").exists() and run.scores.exists()


def _read(run: Run) -> Result:
    facts = json.loads((run.folder / "training.json").read_text(encoding="utf-8"))
    return Result(run, facts, json.loads(run.scores.read_text(encoding="utf-8")))


def _do(run: Run, listen: Listen) -> None:
    log = run.folder / "log.txt"
    with log.open("w", encoding="utf-8") as errors, _start(errors) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        fault = ""
        try:
            process.stdin.write(json.dumps(_task(run)) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                fault = message.get("error", fault)
                listen(run, message)
            process.wait()
        finally:
            _stop(process)
    if process.returncode:
        raise TrainingError(f"{run.name}: {fault or _last(log, process.returncode)}")


def _start(errors: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.comparison.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        start_new_session=True,  # Ctrl-C is for us: we close its stdin
    )


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _task(run: Run) -> dict[str, Any]:
    return {
        "params": run.params.model_dump(mode="json", by_alias=True),
        "limit": asdict(run.limit),
        "dataset": run.paths.dataset,
        "fingerprint": run.packed.fingerprint,
        "code": run.code,
        "prepared": str(run.paths.prepared),
        "splits": str(run.packed.splits),
        "folder": str(run.folder),
        "scores": str(run.scores),
    }


def _last(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    said = lines[-1] if lines else "nothing said"
    return f"ended with {code}: {said} (the rest: {log})"
