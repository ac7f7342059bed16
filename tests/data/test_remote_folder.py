"""Whole folders from S3 and others: names checked, whole or not at all."""

import os

import fsspec
import pytest

from kmunet.data import remote_folder
from kmunet.data.remote import fetch, localize
from kmunet.errors import RemoteError, UnreachableError

FILES = {"benign/benign (1).png": b"a", "benign/benign (1)_mask.png": b"bb",
         "list+of&all.csv": b"ccc", "deep/er/x.bin": os.urandom(300_000)}  # fmt: skip


@pytest.fixture
def folder(s3_server, request):
    """A folder of its own in the bucket."""
    place = f"f{abs(hash(request.node.name))}"
    for name, content in FILES.items():
        s3_server.put("folders", f"{place}/{name}", content)
    return f"s3://folders/{place}/"


def contents(path):
    found = (p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


def test_a_folder_comes_whole_and_once(aws, folder, tmp_path):
    said = []
    path = localize(folder, tmp_path, said.append)
    assert contents(path) == FILES
    assert "4 files, 300006 bytes, checked by md5 of S3's ETag" in said[-1]
    said.clear()
    assert localize(folder, tmp_path, said.append) == path
    assert said == []


def test_changes_in_the_folder_are_seen(aws, s3_server, folder, tmp_path):
    localize(folder, tmp_path)
    key = folder.removeprefix("s3://folders/")
    s3_server.put("folders", f"{key}new.png", b"new")
    s3_server.delete("folders", f"{key}list+of&all.csv")
    found = contents(localize(folder, tmp_path))
    assert found.pop("new.png") == b"new"
    assert found == {k: v for k, v in FILES.items() if k != "list+of&all.csv"}


def test_files_that_were_lost_come_again_and_they_alone(aws, folder, tmp_path):
    path = localize(folder, tmp_path)
    (path / "benign/benign (1).png").unlink()
    (path / "deep/er/x.bin").write_bytes(b"cut")
    (path / "mine.txt").write_text("stays")
    with aws.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        away.setattr("kmunet.data.remote.FIRST_PATIENCE", ())
        with pytest.raises(UnreachableError):  # half a copy is none
            localize(folder, tmp_path)
    said = []
    found = contents(localize(folder, tmp_path, said.append))
    assert found.pop("mine.txt") == b"stays"
    assert found == FILES
    assert "2 of 4 files are missing or have another size" in said[0]
    said.clear()
    localize(folder, tmp_path, said.append)
    assert said == []
    assert {p.name for p in path.parent.iterdir()} == {
        path.name, f".{path.name}.download.json"}  # fmt: skip


def test_a_cut_goes_on_file_by_file(aws, folder, tmp_path, monkeypatch):
    real, asked = remote_folder.download, []

    def failing(remote, address, *rest):
        asked.append(address.url)
        if address.url.endswith("x.bin") and len(asked) <= len(FILES):
            raise UnreachableError("cut")
        return real(remote, address, *rest)

    monkeypatch.setattr(remote_folder, "download", failing)
    target = tmp_path / "set"
    with pytest.raises(UnreachableError):
        fetch(folder, target)
    assert not target.exists()
    asked.clear()
    asked.extend([""] * len(FILES))
    said = []
    assert contents(fetch(folder, target, said.append).path) == FILES
    assert len(asked) - len(FILES) < len(FILES)
    assert "files are here" in said[0]
    assert {p.name for p in tmp_path.iterdir()} == {"set", ".set.download.json"}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "a//b", "x" * 300]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    memory = fsspec.filesystem("memory")
    memory.store[f"/set/{name}"] = memory.open("/set/good", "wb")
    try:
        with pytest.raises(RemoteError, match=r"refused: '.*' is"):
            fetch("memory://set/", tmp_path / "in" / "set")
        assert not list(tmp_path.rglob("*evil*"))
    finally:
        memory.store.clear()


def test_limits(aws, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_folder, "MAX_FILE_BYTES", 1000)
    with pytest.raises(RemoteError, match=r"x\.bin' is 300000 bytes, above the limit"):
        localize(folder, tmp_path)
    monkeypatch.setattr(remote_folder, "MAX_FILES", 3)
    with pytest.raises(RemoteError, match="more than 3 files"):
        localize(folder, tmp_path)


def test_a_folder_of_this_machine_by_url(s3_server, folder, tmp_path):
    place = folder.replace("s3://", f"file://{s3_server.root}/")
    assert contents(localize(place, tmp_path)) == FILES
