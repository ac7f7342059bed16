"""Zips are read member by member; whatever could lead outside is refused."""

import os
import re
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from kmunet.data import archive
from kmunet.data.archive import ZipFiles, open_files
from kmunet.errors import DataError, SourceError, UnreadableError


def make_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def test_members_come_sorted_and_whole(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("b (1).png", b"1"), ("a [x].png", b"22")])
    files = open_files(path, "x")
    assert files.names() == ["a [x].png", "b (1).png"]
    assert files.read("a [x].png") == b"22"
    files.close()


def test_a_folder_with_one_zip_is_that_zip(tmp_path):
    make_zip(tmp_path / "a.zip", [("i.png", b"1")])
    (tmp_path / "readme.txt").write_text("terms")
    assert open_files(tmp_path, "x").names() == ["i.png"]


def test_images_beside_a_zip_are_read_as_they_lie(tmp_path):
    make_zip(tmp_path / "a.zip", [("i.png", b"1")])
    (tmp_path / "j.png").write_bytes(b"2")
    assert "j.png" in open_files(tmp_path, "x").names()


def test_linked_folders_of_a_cache_are_followed(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "i.png").write_bytes(b"1")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "images").symlink_to(tmp_path / "cache")
    files = open_files(tmp_path / "raw", "x")
    assert files.names() == ["images/i.png"]
    assert files.read("images/i.png") == b"1"


@pytest.mark.parametrize("inside", [b"", b"images_\xfc/"])
def test_names_that_are_not_utf8_are_to_be_renamed(tmp_path, inside):
    folder = tmp_path / os.fsdecode(inside)
    folder.mkdir(exist_ok=True)
    (folder / os.fsdecode(b"l\xe4sion.png")).write_bytes(b"1")
    name = re.escape(repr(inside + b"l\xe4sion.png"))
    with pytest.raises(SourceError, match=rf"{name}: a name that is not UTF-8; rename"):
        open_files(tmp_path, "x")


@pytest.fixture
def open_to_all():
    """A folder that another user can enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_nobody():
    """Root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("closed", ["masks", "images/b"])
def test_a_folder_that_may_not_be_read_is_named(open_to_all, closed):
    for name in ("images/b/i.png", "masks/i.png", ".trash/i.png", "lost+found/i.png"):
        (open_to_all / name).parent.mkdir(parents=True, exist_ok=True)
        (open_to_all / name).write_bytes(b"1")
    for name in (closed, ".trash", "lost+found"):
        (open_to_all / name).chmod(0)
    text = rf"{open_to_all}/{closed}: Permission denied; make it readable"
    with as_nobody(), pytest.raises(SourceError, match=text):
        open_files(open_to_all, "x")
    (open_to_all / closed).chmod(0o755)
    with as_nobody():
        assert open_files(open_to_all, "x").names() == ["images/b/i.png", "masks/i.png"]


def test_clutter_of_other_systems_is_no_file(tmp_path):
    names = ["__MACOSX/._i.png", ".DS_Store", "images/Thumbs.db", "images/i.png"]
    path = make_zip(tmp_path / "a.zip", [(name, b"1") for name in names])
    assert open_files(path, "x").names() == ["images/i.png"]


def test_backslashes_of_windows_tools_are_folders(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("images\\i.png", b"1")])
    files = open_files(path, "x")
    assert files.read("images/i.png") == b"1"


def test_members_that_begin_with_a_dot_and_a_slash_are_read(tmp_path):
    names = ["./", "./images/i.png", "./masks/./i.png", "./.DS_Store"]
    path = make_zip(tmp_path / "a.zip", [(name, b"1") for name in names])
    files = open_files(path, "x")
    assert files.names() == ["images/i.png", "masks/i.png"]
    assert files.read("masks/i.png") == b"1"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/i.png", "absolute"),
        ("C:/i.png", "absolute"),
        ("images/../../i.png", "outside"),
        ("..\\i.png", "outside"),
        ("./../i.png", "outside"),
        (".//etc/i.png", "absolute"),
    ],
)
def test_paths_outside_are_refused(tmp_path, name, fault):
    path = make_zip(tmp_path / "a.zip", [("ok.png", b"1"), (name, b"1")])
    with pytest.raises(SourceError, match=fault):
        open_files(path, "x")


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("images/i.png")
    link.external_attr = 0o120777 << 16
    with pytest.raises(SourceError, match="a link"):
        open_files(make_zip(tmp_path / "a.zip", [(link, b"/etc/passwd")]), "x")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_RATIO", 100)
    path = make_zip(tmp_path / "a.zip", [("i.png", bytes(10**6))])
    with pytest.raises(SourceError, match=r"i\.png.*more tightly"):
        open_files(path, "x")


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_TOTAL_BYTES", "MAX_FILE_BYTES"])
def test_limits_hold(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(archive, limit, 2)
    names = [(f"{n}.png", b"123") for n in range(3)]
    with pytest.raises(SourceError, match=r"limit|more than"):
        open_files(make_zip(tmp_path / "a.zip", names), "x")


def test_the_same_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = make_zip(tmp_path / "a.zip", [("i.png", b"1"), ("i.png", b"2")])
    with pytest.raises(SourceError, match="twice"):
        open_files(path, "x")


def test_missing_empty_and_foreign_paths_say_what_to_put_there(tmp_path):
    with pytest.raises(SourceError, match=r"gone: no such folder; put A\.zip there"):
        open_files(tmp_path / "gone", "A.zip")
    with pytest.raises(SourceError, match=r"empty; put A\.zip there"):
        open_files(tmp_path, "A.zip")
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(SourceError, match=r"a\.zip: not a zip archive"):
        open_files(tmp_path, "A.zip")


def test_several_archives_are_not_guessed_among(tmp_path):
    make_zip(tmp_path / "a.zip", [("i.png", b"1")])
    make_zip(tmp_path / "b.zip", [("i.png", b"1")])
    with pytest.raises(SourceError, match=r"2 archives \(a\.zip, b\.zip\)"):
        open_files(tmp_path, "x")


def test_a_zip_cut_short_is_named(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("i.png", bytes(range(256)) * 40)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceError, match=r"a\.zip: .*cut short"):
        open_files(path, "x")


def test_a_damaged_member_is_named(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("i.png", bytes(range(256)) * 40)])
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"i\.png: damaged"):
        open_files(path, "x").read("i.png")


@pytest.mark.parametrize("field", [6, 8, 10])  # version needed, flags, method
def test_a_harmed_directory_is_one_clear_error(tmp_path, field):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images/a.png", b"x" * 50)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + field] = 0xD3
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip: |a\.png: "):
        ZipFiles(path).read("images/a.png")
