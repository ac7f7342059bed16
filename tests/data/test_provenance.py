"""Raw files by checksum: sorted, links followed, clutter ignored, changes found."""

import hashlib
import json

import pytest

from kmunet.data.provenance import compare, digest, raw_files, raw_record
from kmunet.errors import SourceError


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    contents = {"b.zip": b"second" * 500_000, "a/x (1).png": b"one", "a/y.png": b""}
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for clutter in (".DS_Store", "a/Thumbs.db", "__MACOSX/z.png", ".git/config"):
        path = root / clutter
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"clutter")
    return root


def test_files_are_listed_in_order_with_size_and_checksum(raw):
    files = raw_files(raw)
    assert [file["path"] for file in files] == ["a/x (1).png", "a/y.png", "b.zip"]
    assert [file["bytes"] for file in files] == [3, 0, 3_000_000]
    assert files[0]["sha256"] == hashlib.sha256(b"one").hexdigest()


def test_links_are_followed(raw, tmp_path):
    (tmp_path / "links").mkdir()
    for name in ("a", "b.zip"):
        (tmp_path / "links" / name).symlink_to(raw / name)
    assert raw_files(tmp_path / "links") == raw_files(raw)
    (tmp_path / "links" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"gone\.png: No such file"):
        raw_files(tmp_path / "links")


def test_the_record_is_a_function_of_the_files(raw, tmp_path):
    before = raw_record(raw, "folder")
    assert raw_record(raw, "folder") == before
    record = json.loads(before)
    assert record["digest"] == digest(reversed(record["files"]))
    (raw / ".DS_Store").write_bytes(b"more clutter")
    assert raw_record(raw, "folder") == before
    (raw / "b.zip").rename(raw / "c.zip")
    assert json.loads(raw_record(raw, "folder"))["digest"] != record["digest"]
    with pytest.raises(SourceError, match="no such file or folder"):
        raw_record(tmp_path / "nothing", "folder")


def test_what_differs_is_missing_or_new_is_told_apart(raw):
    recorded = raw_files(raw)
    assert compare(recorded, raw).agrees
    (raw / "a" / "x (1).png").write_bytes(b"two")
    (raw / "a" / "y.png").unlink()
    (raw / "new.png").write_bytes(b"")
    found = compare(recorded, raw)
    assert (found.same, found.differs) == (("b.zip",), ("a/x (1).png",))
    assert (found.missing, found.extra) == (("a/y.png",), ("new.png",))
    assert not found.agrees


def test_one_archive_is_compared_alone(raw, tmp_path):
    recorded = raw_files(raw)
    elsewhere = (raw / "b.zip").rename(tmp_path / "b.zip")
    assert compare(recorded, elsewhere).same == ("b.zip",)
    assert compare(recorded, elsewhere).agrees
    elsewhere.write_bytes(b"cut short")
    assert compare(recorded, elsewhere).differs == ("b.zip",)
    other = tmp_path / "other.zip"
    other.write_bytes(b"")
    with pytest.raises(SourceError, match="0 recorded files have this name"):
        compare(recorded, other)
