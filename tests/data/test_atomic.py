"""A folder that two write at once is one of theirs, whole."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from kmunet.data.atomic import new_folder


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
