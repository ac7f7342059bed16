"""Retries, time, turns, messages and the scheduled flows, with real Prefect and DVC."""

import re
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from prefect import get_client
from prefect.blocks.system import Secret
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed
from prefect.testing.utilities import prefect_test_harness
from small_project import commit, dvc, environment, git, make_project

from flows import nightly as nightly_module
from flows import retries
from flows import weekly as weekly_module
from flows.ask import Answer
from flows.backfill import backfill
from flows.limits import NoTurnError
from flows.main import kmunet
from flows.nightly import nightly
from flows.sweep import sweep
from flows.weekly import weekly
from kmunet.config import load_params
from pipelines.search_space import read_space

BUSI = "data/raw/busi"
HANG = {"train.epochs": 500}


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture(scope="module")
def checkout(server, tmp_path_factory):
    """Data sets busi and cvc, busi tracked by DVC in two versions: tags one and two."""
    place = make_project(tmp_path_factory.mktemp("flow") / "project")
    params = place / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("datasets: [synthetic]", "datasets: [busi]"))
    for number in ("one", "two"):
        (place / BUSI).mkdir(parents=True, exist_ok=True)
        (place / BUSI / "a.txt").write_text(number)
        dvc(place, "add", "-q", BUSI)
        commit(place, number)
        git(place, "tag", number)
    return place


@pytest.fixture
def here(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(retries, "DELAYS", [0.2, 0.2, 0.2])
    return checkout


def tasks(state):
    run = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        )
    return {task.name: task for task in found}


def test_a_server_that_is_away_is_tried_again_and_bad_data_is_not(here, endpoint):
    arrived, _ = endpoint
    state = kmunet(overrides={"train.epochs": 75}, return_state=True)
    assert state.is_completed(), state.message
    assert tasks(state)["train@busi"].run_count == 3
    assert [found["title"] for found in arrived] == ["kmunet: busi has a new champion"]
    assert "version 1 promoted to champion: first model" in arrived[0]["message"]
    state = kmunet(overrides={"train.epochs": 13}, return_state=True)
    assert state.is_failed()
    assert tasks(state)["train@busi"].run_count == 1
    assert len(arrived) == 2
    assert arrived[1]["title"].endswith(": Failed")
    assert "13 is unlucky" in arrived[1]["message"]


def test_time_that_is_up_ends_the_stage_and_the_run(here):
    state = kmunet(overrides=HANG, stage_hours={"train": 2 / 3600}, return_state=True)
    assert state.name == "TimedOut"
    assert "train@busi was ended" in state.message
    assert tasks(state)["train@busi"].run_count == 1
    assert not list((here / ".kmunet" / "workspaces").iterdir())


HOLD = """
import sys, time
from flows.slots import slot
with slot(sys.argv[1], lambda text: print(text, flush=True)):
    print("in", flush=True)
    sys.stdin.read()
"""


def hold(server, dataset):
    """Another process with a data set's slot, until its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, dataset],
        env=environment() | {"PREFECT_API_URL": server},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_runs_on_one_data_set_take_turns_and_others_go_on(here, server):
    one = hold(server, "cvc")
    assert one.stdout.readline() == "in\n"
    two = hold(server, "cvc")
    assert "waiting for the run on cvc" in two.stdout.readline()
    other = hold(server, "glas")
    assert other.stdout.readline() == "in\n"
    late = kmunet(datasets=["cvc"], raw={"cvc": str(here / BUSI)}, hours=4 / 3600,
                  return_state=True)  # fmt: skip
    assert late.name == "TimedOut"
    assert "cvc: another run had it" in late.message
    assert two.poll() is None
    other.communicate()
    one.stdin.close()
    assert two.stdout.readline() == "in\n"
    two.stdin.close()
    assert one.wait() == two.wait() == 0
    one.stdout.close()
    two.stdout.close()


@pytest.mark.slow
def test_a_backfill_runs_each_version_and_none_twice(here):
    before = git(here, "status", "--short")
    two = (here / f"{BUSI}.dvc").read_text().split("md5: ")[1].split()[0]
    state = backfill(["one", two, "two"], return_state=True)
    assert state.is_completed(), state.message
    lines = state.message.splitlines()
    assert lines[0].startswith("one: busi ran ")
    assert lines[2].startswith("two: busi done before")
    assert git(here, "status", "--short") == before
    assert (here / BUSI / "a.txt").read_text() == "two"


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ([], "versions: empty"),
        (["nope"], "version nope: no commit, tag or branch"),
        (["one", "HEAD~2"], "version HEAD~2: busi is not tracked there"),
        (["0" * 32], "is of a folder: its MD5 ends in .dir"),
    ],
)
def test_a_backfill_checks_all_versions_before_one_runs(here, versions, words):
    state = backfill(versions, return_state=True)
    assert state.is_failed()
    assert words in state.message
    assert tasks(state) == {}


def test_a_night_without_news_runs_nothing(here, monkeypatch):
    asked = []

    def ask(module, dataset, root, *arguments):
        asked.append((module, dataset))
        return Answer(Completed(), {"train": len(asked) > 1, "why": f"{dataset}: x"})

    monkeypatch.setattr(nightly_module, "ask", ask)
    trained = []
    monkeypatch.setattr(
        nightly_module, "kmunet", lambda **asked: trained.append(asked) or Completed()
    )
    state = nightly(return_state=True)
    assert (state.name, state.message) == ("Unchanged", "busi: x")
    assert tasks(state) == {}
    assert trained == []
    assert nightly(stage_hours={"train": 1.0}, return_state=True).is_completed()
    assert asked == [("news", "busi")] * 2
    assert trained[0]["datasets"] == ["busi"]
    assert trained[0]["stage_hours"] == {"train": 1.0}


def test_drift_is_told(here, endpoint, monkeypatch):
    arrived, url = endpoint
    monkeypatch.delenv("KMUNET_NOTIFY")
    Secret(value=url).save("kmunet-notify", overwrite=True)
    found = {
        "busi": Answer(Completed(), {"drift": True, "why": "IoU 0.4, below 0.5"}),
        "cvc": Answer(Completed(), {"drift": False, "why": "all well"}),
    }
    monkeypatch.setattr(weekly_module, "_answers", lambda *_: found)
    state = weekly(return_state=True)
    assert (state.name, state.type.value) == ("Drift", "COMPLETED")
    assert state.message == "busi: IoU 0.4, below 0.5\ncvc: all well"
    assert [found["title"] for found in arrived] == ["kmunet: busi has drifted"]
    found["cvc"] = Answer(Failed(message="MLflow is away"))
    state = weekly(return_state=True)
    assert (state.message, state.is_failed()) == ("MLflow is away", True)
    assert arrived[1]["title"] == "kmunet: busi has drifted"  # though cvc failed
    assert arrived[2]["message"].startswith("MLflow is away")
    Secret(value="").save("kmunet-notify", overwrite=True)


def test_drift_is_told_where_time_was_too_short_for_the_next(
    here, endpoint, monkeypatch
):
    def ask(module, dataset, root, **_):
        return Answer(Completed(), {"drift": True, "why": f"{dataset}: worse"})

    def turn(dataset, *_):
        if dataset == "cvc":
            raise NoTurnError("cvc: another run had it all the time")
        return nullcontext()

    monkeypatch.setattr(weekly_module, "ask", ask)
    monkeypatch.setattr(weekly_module, "slot", turn)
    (here / "data" / "raw" / "cvc").mkdir()
    state = weekly(["busi", "cvc"], return_state=True)
    assert (state.name, state.type.value) == ("TimedOut", "FAILED")
    assert "cvc: another run had it" in state.message
    assert endpoint[0][0]["title"] == "kmunet: busi has drifted"


def test_a_data_set_that_is_broken_stops_no_training_of_another(
    here, tmp_path, monkeypatch
):
    def ask(module, dataset, root, *arguments):
        return Answer(Completed(), {"train": True, "why": f"{dataset}: new"})

    monkeypatch.setattr(nightly_module, "ask", ask)
    trained = []
    monkeypatch.setattr(
        nightly_module, "kmunet", lambda **asked: trained.append(asked) or Completed()
    )
    gone = f"file://{tmp_path}/gone.zip"
    state = nightly(["cvc", "busi"], raw={"cvc": gone}, return_state=True)
    assert state.is_failed()
    assert "gone.zip" in state.message
    assert [own["datasets"] for own in trained] == [["busi"]]


def test_a_night_refreshes_imports(here, tmp_path, monkeypatch):
    source = tmp_path / "source.txt"
    source.write_text("old")
    place = here / "data" / "raw" / "glas"
    place.mkdir(parents=True)
    dvc(place, "import-url", "-q", str(source), "source.txt")
    said = []
    nightly_module.refresh(here, "glas", said.append)
    assert said == []
    time.sleep(0.01)
    source.write_text("new and longer")
    nightly_module.refresh(here, "glas", said.append)
    assert (place / "source.txt").read_text() == "new and longer"
    assert "commit the file" in said[0]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"dataset": "cvc"}, "cvc"),
        ({"dataset": "busi", "overrides": {"train.lr": 99}}, "train.lr"),
        ({"dataset": "busi", "overrides": {"recipe": "paper"}}, "is prepared with"),
        ({"dataset": "busi", "hours": 0}, "hours: 0 hours"),
    ],
)
def test_a_sweep_is_checked_before_it_starts(here, request_, words):
    state = sweep(**request_, return_state=True)
    assert state.is_failed()
    assert words in state.message
    assert tasks(state) == {}


def test_the_space_that_the_help_shows_is_one(here, tmp_path):
    shown = re.search(r"as in\s+(\{.*\})", sweep.fn.__doc__)
    (tmp_path / "space.yaml").write_text(shown[1])
    space = read_space(tmp_path / "space.yaml", load_params(here / "params.yaml"))
    assert list(space) == ["train.lr"]
