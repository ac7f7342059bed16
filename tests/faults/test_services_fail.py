"""A service of a whole stack, killed while a run trains on it."""

import time

import pytest
from fleet import FINAL, STAGES, until
from record import record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
GONE = "went away in mid-training"
EPOCHS = 150  # short ones: some are left after what is done to it


def test_mlflow_gets_all_epochs_after_it_was_killed(fleet, curve):
    run = fleet.train(seed=1, epochs=EPOCHS)
    until(lambda: len(curve()) >= 2, 240)
    fleet.kill("mlflow")
    fleet.reaches(run, fleet.epoch() + 5)
    missed = fleet.epoch()
    fleet.up()
    start = time.monotonic()
    until(lambda: missed in curve(), 120)
    seconds = time.monotonic() - start
    assert _computed(fleet, run)
    assert curve() == list(range(1, EPOCHS + 1))
    what = "the training goes on; what it has to tell waits in .kmunet/mlflow-pending"
    kept = "all: every epoch once, the model registered"
    record("the MLflow server killed, started again (seconds: after it is back)",
           what, kept, seconds)  # fmt: skip


def goes_on_without(fleet, name, run):
    """Kill a part for a while; seconds from its return until Prefect answers."""
    fleet.reaches(run, 3)
    before = fleet.drivers()
    assert len(before) == 1
    fleet.kill(name)
    time.sleep(10)
    assert fleet.state(run) is None  # nobody answers
    fleet.reaches(run, fleet.epoch() + 2)
    fleet.up()
    start = time.monotonic()
    until(lambda: fleet.state(run), 60)
    seconds = time.monotonic() - start
    assert fleet.drivers() <= before  # not doubled
    assert set(fleet.completed(run)) == set(STAGES)
    assert fleet.slots() == 0
    return seconds


def test_postgres_may_die_in_mid_run(fleet, curve):
    run = fleet.train(seed=2, epochs=EPOCHS)
    seconds = goes_on_without(fleet, "postgres", run)
    assert curve() == list(range(1, EPOCHS + 1))
    what = "the stage goes on; Prefect and MLflow find the database again by themselves"
    record("PostgreSQL killed, started again (seconds: after it is back)", what,
           "all: the run ends Completed, every epoch once in MLflow",
           seconds)  # fmt: skip


def test_the_prefect_server_may_die_in_mid_run(fleet):
    run = fleet.train(seed=3, epochs=EPOCHS)
    seconds = goes_on_without(fleet, "prefect", run)
    what = "the stage goes on, neither ended nor started twice; its run keeps its turn"
    record("the Prefect server killed, started again (seconds: after it is back)",
           what, "all: the run ends Completed", seconds)  # fmt: skip


def test_rays_head_may_die_in_mid_run(fleet):
    """The stage says so and is tried again by itself, until a head answers."""
    run = fleet.train(seed=4, epochs=EPOCHS)
    fleet.reaches(run, 8)
    start = time.monotonic()
    fleet.kill("ray")
    until(lambda: not fleet.drivers(), 120)
    until(lambda: _told(fleet, run, GONE), 60)
    fleet.up()
    told = until(lambda: _told(fleet, run, "epoch "), 200)
    seconds = time.monotonic() - start
    assert _computed(fleet, run)
    assert fleet.slots() == 0
    assert int(told[0].removeprefix("epoch ").partition("/")[0]) > 4  # of 8 saved
    what = "the stage ends, and is tried again after 15, 60 and 300 s"
    kept = "finished stages, and the training up to a checkpoint of its last seconds"
    record(
        "Ray's head killed, started again once the stage had ended", what, kept, seconds
    )


def _told(fleet, run, words):
    """The lines with `words` since Ray went, once there is one; the run is not over."""
    state = fleet.state(run)
    assert not state or state["type"] not in FINAL, (state, fleet.logs(run)[-20:])
    logs = fleet.logs(run)
    gone = [number for number, line in enumerate(logs) if GONE in line]
    return [line for line in logs[min(gone, default=len(logs)) :] if words in line]


def _computed(fleet, run):
    """It trained, and what follows; another test may have prepared the data."""
    tasks = fleet.completed(run)
    return [tasks[stage] for stage in STAGES][3:] == ["Completed"] * 3
