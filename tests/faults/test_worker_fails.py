"""The Prefect worker of a whole stack killed in mid-run; two runs in one checkout."""

import os
import signal
import time

import psutil
import pytest
from fleet import STAGES, until
from record import record
from small_project import gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_worker_killed_with_its_run(fleet):
    """As when its machine loses power: nobody can say that the run is over."""
    run = fleet.train(seed=11, epochs=90)
    fleet.reaches(run, 3)
    worker, running = psutil.Process(fleet.pid("worker")), fleet.at_work()
    start = time.monotonic()
    for process in (worker, *worker.children()):  # with the run's own process
        process.kill()
    assert gone(running, 60)
    ended, saved = time.monotonic() - start, fleet.epoch()
    assert fleet.state(run)["type"] == "RUNNING"
    fleet.up()
    assert fleet.state(run)["type"] == "CRASHED"
    resumed(fleet, saved)
    seconds = time.monotonic() - start
    what = (
        f"its training saves, and all ends (here in {ended:.0f} s); the next `up` "
        "marks the run Crashed and gives its turn back; run again, it resumes"
    )
    kept = "finished stages, and the training up to its last checkpoint"
    record("the Prefect worker and its run killed, run again", what, kept, seconds)


def test_a_worker_killed_alone(fleet):
    """Its run's console is gone with it, which ends the run in good order."""
    run = fleet.train(seed=12, epochs=90)
    fleet.reaches(run, 3)
    running = fleet.at_work()
    start = time.monotonic()
    os.kill(fleet.pid("worker"), signal.SIGKILL)
    assert fleet.ended(run, 60)["type"] == "CRASHED"
    assert gone(running, 60)
    assert fleet.slots() == 0
    saved = fleet.epoch()
    fleet.up()
    resumed(fleet, saved)
    seconds = time.monotonic() - start
    what = "its run ends as Crashed and gives its turn back; run again, it resumes"
    kept = "finished stages, and the training up to its last checkpoint"
    record("the Prefect worker killed alone, run again", what, kept, seconds)


def resumed(fleet, saved):
    """A run with nothing changed: its stages, and where its training begins."""
    again = fleet.train()
    tasks = fleet.completed(again)
    assert [tasks[stage] for stage in STAGES] == ["Cached"] * 3 + ["Completed"] * 3
    told = [line for line in fleet.logs(again) if line.startswith("epoch ")]
    assert int(told[0].removeprefix("epoch ").partition("/")[0]) > saved


def test_two_runs_on_one_checkout_take_turns(fleet):
    runs = fleet.train(seed=13, epochs=2), fleet.train()
    first = until(lambda: next((r for r in runs if done(fleet, r)), None), 300)
    start = time.monotonic()
    (second,) = set(runs) - {first}
    assert fleet.completed(first)["train@synthetic"] == "Completed"
    assert fleet.completed(second) == dict.fromkeys(STAGES, "Cached")
    seconds = time.monotonic() - start
    assert any(line.startswith("waiting for the run") for line in fleet.logs(second))
    what = "the second says that it waits, then finds all stages Cached"
    record("two runs at once on one checkout (seconds: after the first has ended)",
           what, "all; nothing is done twice", seconds)  # fmt: skip


def done(fleet, run):
    return (fleet.state(run) or {}).get("type") == "COMPLETED"


def test_a_dvc_killed_while_it_wrote_its_locks_stops_no_run(fleet):
    (fleet.root / ".dvc" / "tmp" / "rwlock").write_text("")
    start = time.monotonic()
    run = fleet.train()
    assert set(fleet.completed(run).values()) == {"Cached"}
    seconds = time.monotonic() - start
    assert any("rwlock: cut short when a DVC" in line for line in fleet.logs(run))
    what = "the next run removes the file, and says so"
    record("DVC killed while it wrote its own lock (.dvc/tmp/rwlock is empty)",
           what, "all", seconds)  # fmt: skip
