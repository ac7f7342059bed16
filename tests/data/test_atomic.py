"""A folder that two write at once is one of theirs, whole."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest

from kmunet.data import atomic
from kmunet.data.atomic import new_folder, require_space


def test_two_writers_take_turns(tmp_path):
    target, started = tmp_path / "runs" / "set", Barrier(2)

    def write(who):
        started.wait()
        with new_folder(target) as folder:
            for number in range(50):
                (folder / f"{number}-{who}").touch()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    names = {path.name for path in target.iterdir()}
    assert names in ({f"{n}-{who}" for n in range(50)} for who in "ab")
    assert [path.name for path in target.parent.iterdir()] == ["set"]


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "set"
    with new_folder(target) as folder:
        (folder / "old").touch()

    def stop():
        with new_folder(target) as folder:
            (folder / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


CHILD = """
import os, pathlib, signal, sys
from kmunet.data.atomic import new_folder
signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
target = pathlib.Path(sys.argv[1])
rename = pathlib.Path.rename
def dying(path, to):
    if path.name.endswith(".partial"):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    return rename(path, to)
pathlib.Path.rename = dying
with new_folder(target) as folder:
    (folder / "new").touch()
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_between_the_two_renames_what_was_there_is_not_lost(tmp_path, how):
    """Ctrl-C puts it back at once, the next writer after a kill."""
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").touch()
    command = [sys.executable, "-c", CHILD, str(target), how]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0
    if how == "SIGKILL":
        assert not target.exists()
        with pytest.raises(ZeroDivisionError), new_folder(target):
            raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_another_disk_is_followed(tmp_path, monkeypatch, there):
    """The space is asked of the disk that is written to, and the link stays."""
    disk, link = tmp_path / "disk", tmp_path / "data" / "set"
    disk.mkdir()
    link.parent.mkdir()
    link.symlink_to(disk / "set")
    if there:
        (disk / "set").mkdir()
        (disk / "set" / "old").touch()
    asked = []

    def usage(place):
        asked.append(place)
        return shutil.disk_usage(place)

    monkeypatch.setattr(atomic, "shutil", SimpleNamespace(disk_usage=usage))
    require_space(link, 1, "")
    monkeypatch.undo()
    with new_folder(link) as folder:
        assert folder.parent == disk
        (folder / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in link.iterdir()] == ["new"]
    assert [path.name for path in disk.iterdir()] == ["set"]
    assert asked[0].is_relative_to(disk)
