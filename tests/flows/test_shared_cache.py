"""One stage through a remote: known elsewhere, computed once, sent again if it must."""

import shutil
import sys

import pytest
from small_project import commit, dvc, git, make_project, python

PREPARE = "prepare@busi"


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A project whose tracked data and prepared data are in the remote."""
    place = make_project(tmp_path_factory.mktemp("shared") / "origin")
    params = place / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("datasets: [synthetic]", "datasets: [busi]"))
    (place / "data" / "raw" / "busi").mkdir(parents=True)
    (place / "data" / "raw" / "busi" / "a.txt").write_text("ultrasound")
    dvc(place, "add", "-q", "data/raw/busi")
    dvc(place, "remote", "add", "-d", "store", str(place.with_name("remote")))
    dvc(place, "push", "-q")
    commit(place, "tracked")
    assert call(place, PREPARE).returncode == 0
    return place


def call(place, *arguments, **env):
    return python(place, "-m", "flows.shared_cache", *arguments, **env)


@pytest.fixture
def clone(origin, tmp_path):
    git(tmp_path, "clone", "-q", str(origin), "clone")
    (tmp_path / "clone" / ".venv").symlink_to(sys.prefix)
    return tmp_path / "clone"


def test_what_is_known_is_noted_and_not_brought(clone):
    done = call(clone, PREPARE)
    assert "is cached - skipping run: known to the remote" in done.stdout
    assert not (clone / "data" / "raw" / "busi").exists()
    assert not (clone / "data" / "prepared").exists()
    done = call(clone, "split@busi")
    assert done.returncode == 0, done.stderr
    assert "Running stage 'split@busi'" in done.stdout
    assert (clone / "data" / "prepared" / "busi" / "list.txt").exists()  # it was needed


def test_what_was_computed_offline_is_sent_when_the_remote_is_there(clone, tmp_path):
    away = ("remote", "modify", "store", "url", "s3://bucket/nowhere")
    dvc(clone, "pull", "-q", "data/raw/busi.dvc")
    dvc(clone, *away)
    there = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x",
             "AWS_SECRET_ACCESS_KEY": "y", "AWS_MAX_ATTEMPTS": "1"}  # fmt: skip
    done = call(clone, "--force", PREPARE, **there)
    assert done.returncode == 75
    assert "error: share: prepare@busi: the DVC remote" in done.stderr
    assert "Traceback" not in done.stderr
    there = tmp_path / "another"
    dvc(clone, "remote", "modify", "store", "url", str(there))
    assert "known to the remote" in call(clone, PREPARE).stdout
    assert list((there / "runs").rglob("*"))
    assert list((there / "files").rglob("*.dir"))


@pytest.mark.slow
def test_what_was_collected_as_garbage_is_computed_again(clone, origin, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(origin.with_name("remote"), kept)
    prepared = dvc(origin, "ls", ".", "data/prepared", "--dvc-only").split()
    assert prepared == ["busi"]
    lock = (origin / "dvc.lock").read_text().partition("outs:")[2]
    md5 = lock.partition("md5: ")[2].partition("md5: ")[0].split()[0]
    (kept / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    dvc(clone, "remote", "modify", "store", "url", str(kept))
    done = call(clone, PREPARE)
    assert "Running stage" in done.stdout, done.stderr
    assert (kept / "files" / "md5" / md5[:2] / md5[2:]).exists()
