"""Versioned data as the README shows it, with real DVC and a real S3 server."""

import shutil
from pathlib import Path

import pytest
from small_project import dvc, git, make_project

from flows.plan import make_plan
from flows.workspace import workspace
from kmunet.data.content import fetch_content
from pipelines.content import address

AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")
RAW = {"benign/benign (1).png": "ultrasound", "benign/benign (1)_mask.png": "lesion"}


def commit(place):
    git(place, "add", "-A")
    git(place, *AUTHOR, "commit", "-qm", "data")


def clone(place, target):
    """What a colleague gets: no data, no cache; keys come from the environment."""
    git(place, "clone", "-q", str(place), str(target))
    (target / ".venv").symlink_to((place / ".venv").resolve())
    assert not (target / ".dvc" / "cache").exists()
    return target


@pytest.fixture(scope="module")
def pushed(s3_server, tmp_path_factory):
    """A project on BUSI with an S3 remote: dvc add, repro, push."""
    place = make_project(tmp_path_factory.mktemp("versioned") / "project")
    params = place / "params.yaml"
    params.write_text(
        params.read_text().replace("datasets: [synthetic]", "datasets: [busi]")
    )
    s3_server.put("versions", "start", b"")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env().items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL")
        dvc(place, "remote", "add", "-q", "-d", "store", "s3://versions/store")
        dvc(place, "remote", "modify", "store", "endpointurl", s3_server.endpoint)
        for name, text in RAW.items():
            file = place / "data" / "raw" / "busi" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        dvc(place, "add", "-q", "data/raw/busi")
        dvc(place, "repro", "-q")
        dvc(place, "push", "-q")
    commit(place)
    return place


@pytest.fixture
def keys(aws):
    """Keys alone: where the server is stands in the project."""
    aws.delenv("AWS_ENDPOINT_URL")
    return aws


def contents(place):
    found = (p for p in place.rglob("*") if p.is_file())
    return {p.relative_to(place).as_posix(): p.read_text() for p in found}


def test_git_has_what_dvc_notes_and_no_data(pushed):
    names = git(pushed, "ls-files", "data").split()
    assert names == ["data/raw/.gitignore", "data/raw/busi.dvc"]
    assert git(pushed, "status", "--short") == ""


def test_a_fresh_clone_pulls_the_same_bytes_and_has_nothing_to_do(
    pushed, keys, tmp_path
):
    place = clone(pushed, tmp_path / "clone")
    said = dvc(place, "repro", "--pull")
    for folder in ("data/raw/busi", "data/prepared", "models", "reports"):
        assert contents(place / folder) == contents(pushed / folder)
    assert "Running stage" not in said
    assert git(place, "status", "--short") == ""


def test_a_run_in_a_fresh_clone_pulls_its_data(pushed, keys, tmp_path, monkeypatch):
    place, said = clone(pushed, tmp_path / "clone"), []
    monkeypatch.chdir(place)
    plan = make_plan(None, {"train.epochs": 2}, None, False)
    with workspace(plan, "x", said.append) as root:
        assert contents(root / "data" / "raw" / "busi") == RAW
    assert "dvc pull" in said[0]
    with workspace(make_plan(None, None, None, False), "x", said.append) as root:
        assert root == place
        assert contents(root / "data" / "raw" / "busi") == RAW
    assert git(place, "status", "--short") == ""


def test_prepared_data_by_hash_without_a_workspace(pushed, keys, tmp_path):
    found = address(pushed, "data/prepared/busi")
    assert found.remote == "s3://versions/store"
    assert found.md5.endswith(".dir")
    path = fetch_content(found.remote, found.md5, tmp_path, found.options)
    assert contents(path) == contents(pushed / "data" / "prepared" / "busi")
    raw = address(pushed, "data/raw/busi")
    path = fetch_content(raw.remote, raw.md5, tmp_path, raw.options)
    assert contents(path) == RAW
    assert address(pushed, "data/prepared/nothing") is None


def test_no_remote_no_address(pushed, tmp_path):
    place = clone(pushed, tmp_path / "clone")
    dvc(place, "remote", "remove", "store")
    assert address(place, "data/prepared/busi") is None
    dvc(place, "remote", "add", "-q", "-d", "near", str(tmp_path / "store"))
    assert address(place, "data/prepared/busi").remote == f"file://{tmp_path}/store"


def test_an_imported_archive(s3_server, aws, tmp_path, monkeypatch):
    place = make_project(tmp_path / "project")
    archive = s3_server.put("versions", "Dataset_BUSI.zip", b"ultrasound")
    target = Path("data/raw/busi/Dataset_BUSI.zip")
    (place / target).parent.mkdir(parents=True)
    dvc(place, "import-url", "-q", archive, str(target))
    assert (place / target).read_text() == "ultrasound"
    noted = f"{target}.dvc"
    assert git(place, "status", "--short", "-uall") == f"?? {noted}\n"
    assert "etag" in (place / noted).read_text()
    commit(place)
    shutil.rmtree(place / "data")
    git(place, "checkout", "-q", "data")
    monkeypatch.chdir(place)
    for raw in (None, {"busi": str(place / "stage.py")}):
        plan = make_plan(["busi"], None, raw, False)
        with workspace(plan, "x", print) as root:
            found = {p.name for p in (root / "data" / "raw" / "busi").iterdir()}
        assert found == ({"stage.py"} if raw else {target.name, f"{target.name}.dvc"})
    assert git(place, "status", "--short") == ""
