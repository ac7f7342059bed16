import subprocess
import sys
import time

import pytest
from small_project import environment, git, python

from flows.limits import NoTurnError
from flows.plan import make_plan
from flows.workspace import slug, workspace


@pytest.fixture(autouse=True)
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def private(**request):
    defaults = {"datasets": None, "overrides": {"train.epochs": 2}, "raw": None}
    return make_plan(**defaults | request, force=False)


def test_it_holds_what_the_user_sees_and_leaves_no_trace(here):
    (here / "stage.py").write_text("changed")
    (here / "new.py").write_text("new")
    (here / "prefect.yaml").unlink()
    before = git(here, "status", "--short")
    with workspace(private(), "one run", print) as place:
        assert place == here / ".kmunet" / "workspaces" / "one-run"
        assert (place / "stage.py").read_text() == "changed"
        assert (place / "new.py").read_text() == "new"
        assert not (place / "prefect.yaml").exists()
        assert "epochs: 2" in (place / "params.yaml").read_text()
        assert "epochs: 10" in (here / "params.yaml").read_text()
        assert (place / ".venv" / "bin" / "python").exists()
    assert not place.exists()
    assert git(here, "status", "--short") == before


@pytest.mark.parametrize("kind", ["file", "folder", "checkout"])
def test_the_data_lies_where_prepare_reads_it(here, tmp_path, kind):
    folder = tmp_path / "download"
    if kind == "checkout":
        folder = here / "data" / "raw" / "busi"
    folder.mkdir(parents=True)
    (folder / "a.zip").write_text("zip")
    given = {"file": folder / "a.zip", "folder": folder}.get(kind)
    raw = {"busi": str(given)} if given else None
    with workspace(private(datasets=["busi"], raw=raw), "x", print) as place:
        assert (place / "data" / "raw" / "busi" / "a.zip").read_text() == "zip"
    assert (folder / "a.zip").exists()


def test_the_workspace_of_a_dead_run_goes(here):
    code = (
        "import os; from flows.plan import make_plan; "
        "from flows.workspace import workspace; "
        "plan = make_plan(None, {'train.epochs': 2}, None, False)\n"
        "with workspace(plan, 'dead', print) as place: os.kill(os.getpid(), 9)"
    )
    python(here, "-c", code)
    dead = here / ".kmunet" / "workspaces" / "dead"
    assert dead.exists()
    with workspace(private(), "alive", print):
        assert not dead.exists()
    assert len(git(here, "worktree", "list").splitlines()) == 1


def test_two_runs_in_the_checkout_take_turns(here):
    code = (
        "from flows.plan import make_plan; from flows.workspace import workspace\n"
        "with workspace(make_plan(None, None, None, False), 'two', print): "
        "print('entered', flush=True)"
    )
    plan = make_plan(None, None, None, False)
    with workspace(plan, "one", print):
        other = subprocess.Popen(
            [sys.executable, "-uc", code],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "waiting" in other.stdout.readline()
        time.sleep(0.6)
        assert other.poll() is None
    assert "entered" in other.communicate()[0]


def test_a_name_becomes_a_folder():
    assert slug("../my run: 3") == "my-run-3"
    assert slug("//") == "run"


def test_a_run_waits_no_longer_than_it_may(here):
    plan = make_plan(None, None, None, False)
    with (
        workspace(plan, "one", print),
        pytest.raises(NoTurnError, match=r"checkout-synthetic\.lock"),
        workspace(plan, "two", print, 0.1),
    ):
        pass
