"""What is tried again, and what is not: told by exit codes and DVC's words."""

import pytest
from mlflow.exceptions import MlflowException

from flows import retries
from flows.retries import is_away, patiently
from flows.transcript import Transcript
from kmunet.errors import DataError, ServiceError, UnavailableError, UnreachableError
from pipelines.stage import report_errors
from pipelines.tracking_store import answering

DVC_SAYS = "ERROR: failed to reproduce 'train@x': failed to run: train, exited with {}"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(retries, "DELAYS", [0.0, 0.0])


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnreachableError, 75), (UnavailableError, 75), (DataError, 2)],
)
def test_a_stage_tells_by_its_exit_code_what_may_pass(error, code, capsys):
    def fail():
        raise error("why")

    assert report_errors("train", fail) == code
    found = Transcript(print)
    found.add("error: train: the server answers 503")  # words alone are not asked
    found.add(DVC_SAYS.format(code))
    assert found.may_pass(255) == (code == 75)


def test_of_dvc_itself_the_words_are_asked():
    found = Transcript(print)
    found.add("ERROR: unexpected error - Could not connect to the endpoint URL: 'x'")
    assert found.may_pass(255)
    assert not Transcript(print).may_pass(1)
    for text in ("missing data 'source'", "unable to access '/x/503x': no such file"):
        assert not is_away(text)


def test_an_error_after_dvcs_advice_is_heard():
    found = Transcript(print)
    for line in ("Updating lock file 'dvc.lock'", "git add", "error: share: no way"):
        found.add(line)
    assert found.message(75) == "error: share: no way"


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("API request to http://x failed with exception refused", True),
        ("API request to endpoint /x failed with error code 503 != 200", True),
        ("API request to endpoint /x failed with error code 403 != 200", False),
        ("no such experiment", False),
    ],
)
def test_an_mlflow_server_that_is_away_may_come_back(said, passes):
    with pytest.raises(ServiceError, match="MLflow at http") as caught:
        _ask(said)
    assert caught.value.transient == passes


def _ask(said):
    with answering("http://x"):
        raise MlflowException(said)


def test_patience_is_for_what_may_pass(quick):
    said, calls = [], []

    def act(error):
        calls.append(error)
        if len(calls) < 3:
            raise error("away")
        return "done"

    assert patiently(lambda: act(UnreachableError), said.append) == "done"
    assert said == ["away; again in 0 s"] * 2
    calls.clear()
    with pytest.raises(DataError):
        patiently(lambda: act(DataError), said.append)
    assert len(calls) == 1
