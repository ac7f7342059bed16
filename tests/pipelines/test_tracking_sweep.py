"""A trial's run in a real store, over several sweeps that ask for the same trial."""

import pytest

from pipelines.tracking_sweep import SweepRuns


@pytest.fixture
def begin(tmp_path):
    """A sweep with one trial."""

    def make():
        runs = SweepRuns(tmp_path, "sweeps", "identity", "a sweep")
        runs.declare("trial", "label", {"train.seed": 1})
        return runs

    return make


def _trial(runs):
    (run,) = runs.client.search_runs([runs.experiment], "tags.trial = 'trial'")
    return run


def test_why_a_trial_failed_goes_when_it_succeeds(begin):
    runs = begin()
    failed = {"status": "failed", "message": "no memory"}
    runs.end("trial", "FAILED", {}, failed)
    assert _trial(runs).data.tags["message"] == "no memory"
    again = begin()
    again.end("trial", "FINISHED", {"best.val_iou": 0.5}, {"status": "finished"})
    run = _trial(again)
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "finished")
    assert "message" not in run.data.tags
    assert run.data.params == {"train.seed": "1"}
    begin().end("trial", "FAILED", {}, failed)
    assert _trial(again).data.tags["message"] == "no memory"
