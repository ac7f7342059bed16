"""Bad requests end before anything starts, with the key or file by name."""

import pytest

from flows import plan
from flows.plan import make_plan
from kmunet.errors import KMUNetError


@pytest.fixture(autouse=True)
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def refusal(**request):
    defaults = {"datasets": None, "overrides": None, "raw": None, "force": False}
    with pytest.raises(KMUNetError) as caught:
        make_plan(**defaults | request)
    return str(caught.value)


def test_the_default_runs_in_the_checkout(here):
    found = make_plan(None, None, None, False)
    assert found.datasets == ("synthetic",)
    assert found.root == here
    assert not found.private


def test_anything_else_gets_a_workspace_of_its_own(here, tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_text("zip")
    assert make_plan(None, {"train.epochs": 2}, None, False).private
    found = make_plan(None, None, {"busi": str(archive)}, False)
    assert found.private
    assert found.datasets == ("busi",)


def test_data_sets(here):
    assert "'nope'" in refusal(datasets=["nope"])
    assert "empty" in refusal(datasets=[])
    message = refusal(datasets=["busi"])
    assert "data/raw/busi" in message
    assert "--raw busi=PATH" in message


def test_raw(here):
    assert "/no/where.zip" in refusal(raw={"busi": "/no/where.zip"})
    assert "'nope'" in refusal(raw={"nope": "/tmp"})
    assert "not among datasets" in refusal(datasets=["synthetic"], raw={"busi": "/tmp"})


def test_raw_by_url_is_checked_without_network(here):
    found = make_plan(
        None, None, {"busi": "s3://bucket/a.zip#sha256=" + "0" * 64}, False
    )
    assert found.private
    assert found.datasets == ("busi",)
    assert found.raw == {}
    assert found.remote["busi"].startswith("s3://bucket/a.zip")
    assert "64 hexadecimal" in refusal(raw={"busi": "s3://bucket/a.zip#sha256=12"})


def test_overrides(here):
    assert "train.lr" in refusal(overrides={"train.lr": -1})
    assert "`datasets`" in refusal(overrides={"datasets": ["busi"]})
    assert "sources.synthetic.sizes" in refusal(overrides={"train.size": 48})
    assert "split.seed now" in refusal(overrides={"prepare.seed": 1})


def test_too_little_space(here, monkeypatch):
    monkeypatch.setattr(plan, "MARGIN", 2**60)
    assert "free some space" in refusal()


def test_a_checkout_without_its_environment(here):
    (here / ".venv").unlink()
    assert "make install" in refusal()


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in refusal()
