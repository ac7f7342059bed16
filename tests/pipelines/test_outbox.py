"""Records wait in a file until they are taken, over failures and dead processes."""

import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from pipelines import outbox, spool
from pipelines.outbox import Outbox
from pipelines.spool import Spool, deliver_left


class Place:
    """A sink that keeps what it gets, unless it is down or held up."""

    def __init__(self):
        self.down, self.got, self.runs, self.gone = False, [], 0, []
        self.free = threading.Event()
        self.free.set()

    def open(self, header):
        self.free.wait(20)
        if self.down:
            raise ConnectionError("no answer\nand a long story")
        if "run" not in header:
            self.runs += 1
        return header | {"run": 1}

    def send(self, header, records):
        assert header["run"] == 1
        self.got += [record["n"] for record in records]

    def leave(self, header, moment):
        if self.down:
            raise ConnectionError("no answer")
        self.gone.append((header["name"], moment))


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(place, said, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "PAUSES", (0.0,))
    return lambda name="a": Outbox(
        tmp_path / f"{name}.jsonl", {"name": name}, place, said.append
    )


def until(true):
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def test_records_arrive_in_order_and_leave_no_file(make, place, said, tmp_path):
    box = make()
    for n in range(1200):
        box.put({"n": n})
    assert box.close(20)
    assert place.got == list(range(1200))
    assert (place.runs, said, list(tmp_path.iterdir())) == (1, [], [])
    assert deliver_left(tmp_path, place) == 0
    assert place.gone == []


def test_what_a_server_does_not_take_is_sent_when_it_is_back(make, place, said):
    place.down = True
    box = make()
    box.put({"n": 1})
    until(lambda: said)
    box.put({"n": 2})
    place.down = False
    until(lambda: place.got == [1, 2])
    place.down = True
    box.put({"n": 3})
    assert not box.close(20)
    assert len(said) == 1  # a warning, once
    assert said[0].startswith("no answer; what cannot be sent is kept in ")


def test_the_next_process_sends_what_was_left(make, place, tmp_path):
    place.down = True
    for name in ("a", "b"):
        box = make(name)
        box.put({"n": name})
        assert not box.close(20)
    place.down = False
    assert deliver_left(tmp_path, place) == 2
    assert place.got == ["a", "b"]
    assert [name for name, _ in place.gone] == ["a", "b"]
    assert deliver_left(tmp_path, place) == 0


def test_a_file_that_a_process_is_at_is_left_to_it(make, place, tmp_path):
    place.down = True
    box = make()
    box.put({"n": 1})
    until((tmp_path / "a.jsonl").exists)
    assert deliver_left(tmp_path, place) == 0
    place.down = False
    assert box.close(20)
    assert place.got == [1]


def test_a_server_that_hangs_holds_up_neither_put_nor_close(make, place, tmp_path):
    place.free.clear()
    box = make()
    for n in range(outbox.WAITING + 2000):
        box.put({"n": n})
    assert box.lost > 0
    until((tmp_path / "a.jsonl").exists)
    assert not box.close(0.1)
    place.free.set()


SENDS = """
import sys, time
from pathlib import Path
from pipelines.outbox import Outbox

class Sink:
    def open(self, header): return header
    def send(self, header, records): pass

box = Outbox(Path(sys.argv[1]), {"name": "a"}, Sink(), print)
box.put({"n": 1})
time.sleep(60)
"""


def test_who_was_killed_is_told_though_all_had_arrived(place, tmp_path):
    file = tmp_path / "a.jsonl"
    sender = subprocess.Popen([sys.executable, "-c", SENDS, file])
    try:
        until(lambda: file.exists() and file.read_text() == '{"name": "a"}\n')
        assert deliver_left(tmp_path, place) == 0  # it is at it
    finally:
        sender.kill()
        sender.wait()
    os.utime(file, (5, 5))  # its last word
    place.down = True
    with pytest.raises(ConnectionError):
        deliver_left(tmp_path, place)
    place.down = False
    assert deliver_left(tmp_path, place) == 1
    assert (place.got, place.runs, place.gone) == ([], 0, [("a", 5)])
    assert not file.exists()


def test_a_line_that_a_kill_cut_short_is_left_out(place, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"name": "a"}\n{"n": 1}\n{"n": 2')
    assert deliver_left(tmp_path, place) == 1
    assert place.got == [1]


def test_an_outage_of_weeks_fills_no_disk(place, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "LARGEST", 100)
    file = Spool(tmp_path / "a.jsonl", {"name": "a"})
    for n in range(1, 51):
        file.add([{"n": n}, {"n": -n, "keep": True}])
    file.deliver(place)
    file.finish()
    assert [-n for n in place.got if n < 0] == list(range(1, 51))
    assert 0 < len([n for n in place.got if n > 0]) < 10


def test_a_full_disk_leaves_whole_lines(place, tmp_path, monkeypatch):
    file = Spool(tmp_path / "a.jsonl", {"name": "a"})
    file.add([{"n": 1}])
    handle = file._handle
    cut = type("Cut", (), {  # a disk that takes 3 bytes more
        "__getattr__": lambda self, name: getattr(handle, name),
        "write": lambda self, data: handle.write(data[:3]),
    })()  # fmt: skip
    file._handle = cut
    with pytest.raises(OSError, match="no space left"):
        file.add([{"n": 2}])
    file._handle = handle
    file.add([{"n": 3}])
    file.deliver(place)
    file.finish()
    assert place.got == [1, 3]


def test_the_lock_ends_with_the_process(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"name": "a"}\n')
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert Spool.left(file) is None
    found = Spool.left(file)
    assert found is not None
    found.close()
