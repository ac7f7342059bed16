"""A writer that ends early leaves nothing; a set that was changed is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from kmunet.data import atomic
from kmunet.data.header import verify_packed
from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
from kmunet.data.store import open_prepared
from kmunet.errors import DataError


def pack(raw, folder, sizes=(24,), **options):
    with open_source("folder", raw) as source:
        return write_packed(folder, source, sizes, **options)


class _Wrapped:
    """A source whose third pair ends as given."""

    def __init__(self, source, error):
        self._source, self._error = source, error
        pairs = source.matched
        self.matched = (*pairs[:2], replace(pairs[2], files=self), *pairs[3:])

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, name):
        raise self._error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_nothing_half_written_stays(lesions, tmp_path, error):
    target = tmp_path / "out" / "set"
    with open_source("folder", lesions) as source:
        broken = _Wrapped(source, error)
        with pytest.raises(type(error)):
            write_packed(target, broken, [24])
        assert list(target.parent.iterdir()) == []
        before = pack(lesions, target).fingerprint
        with pytest.raises(type(error)):
            write_packed(target, broken, [20])
    assert open_prepared(target).fingerprint == before
    assert [path.name for path in target.parent.iterdir()] == ["set"]


SLOW = """
import sys, time
from pathlib import Path
from kmunet.data import packer
from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
plain = packer.describe
packer.describe = lambda *given: time.sleep(0.2) or plain(*given)
with open_source("folder", Path(sys.argv[1])) as source:
    write_packed(Path(sys.argv[2]), source, [24], native=True)
"""


def test_a_killed_writer_leaves_nothing_visible(lesions, tmp_path):
    target = tmp_path / "out" / "set"
    process = subprocess.Popen([sys.executable, "-c", SLOW, lesions, target])
    deadline = time.monotonic() + 60
    while not list(target.parent.glob(".set.partial/24/images-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    with pytest.raises(DataError, match=r"index\.json: no such file; run the prepare"):
        open_prepared(target)
    pack(lesions, target)
    assert [path.name for path in target.parent.iterdir()] == ["set"]


def test_space_is_asked_for_before_writing(lesions, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage(10**6))
    with pytest.raises(DataError, match=r"set: needs 2 MB but 1 MB are free.*sizes"):
        pack(lesions, tmp_path / "out" / "set")
    assert not (tmp_path / "out").exists()


def _drop(folder):
    (folder / "24" / "masks-00001.npy").unlink()


def _cut(folder):
    path = folder / "24" / "images-00000.npy"
    path.write_bytes(path.read_bytes()[:-100])


def _swap(folder):
    shutil.copy(folder / "24" / "masks-00000.npy", folder / "24" / "images-00000.npy")


def _forget(folder):
    path = folder / "index.json"
    header = json.loads(path.read_text())
    header["count"] -= 1
    path.write_text(json.dumps(header))


def _scribble(folder):
    (folder / "index.json").write_text("{")


def _old(folder):
    (folder / "index.json").rename(folder / "manifest.json")


def _objects(folder):
    path = folder / "24" / "masks-00000.npy"
    size = path.stat().st_size
    np.save(path, np.array([{}]), allow_pickle=True)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))


@pytest.mark.parametrize(
    "harm", [_drop, _cut, _swap, _forget, _scribble, _old, _objects]
)
def test_a_damaged_set_is_refused(lesions, tmp_path, harm):
    pack(lesions, tmp_path / "set", shard_bytes=12 * 24 * 24 * 3)
    harm(tmp_path / "set")
    with pytest.raises(DataError, match=r"set.*run the prepare stage again"):
        open_prepared(tmp_path / "set")


def test_a_changed_byte_is_found_by_its_checksum(lesions, tmp_path):
    pack(lesions, tmp_path / "set", native=True, shard_bytes=12 * 24 * 24 * 3)
    verify_packed(tmp_path / "set")
    for path in sorted((tmp_path / "set").rglob("*")):
        name = path.relative_to(tmp_path / "set").as_posix()
        data = path.read_bytes() if path.is_file() else b""
        if not data or name == "index.json":
            continue
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 4]))
        with pytest.raises(DataError, match=rf"{name}: its content is not what"):
            verify_packed(tmp_path / "set")
        path.write_bytes(data)
    path = tmp_path / "set" / "index.json"
    path.write_text(path.read_text().replace('"folder"', '"busi"'))
    with pytest.raises(DataError, match=r"index\.json: was changed"):
        verify_packed(tmp_path / "set")
