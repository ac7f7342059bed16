"""DVC killed while it wrote its own file of locks."""

import threading
import time

import pytest
from dvc.lock import make_lock
from small_project import dvc, python

from flows.dvc_lock import mend


@pytest.fixture
def rwlock(tmp_path):
    file = tmp_path / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(parents=True)
    return file


def test_dvc_goes_on_after_its_file_of_locks_was_cut_short(project):
    file = project / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    done = python(project, "-m", "dvc", "repro", "-s", "synthesize")
    assert "JSON structure is corrupted" in done.stderr
    said = []
    mend(project, said.append)
    assert said == [f"{file}: cut short when a DVC was killed; removed"]
    dvc(project, "repro", "-s", "synthesize")


@pytest.mark.parametrize("text", [None, "{}", '{"write": {"a": {"pid": 1}}}'])
def test_a_whole_file_stays(rwlock, tmp_path, text):
    if text is not None:
        rwlock.write_text(text)
    mend(tmp_path, pytest.fail)
    assert (rwlock.read_text() if rwlock.exists() else None) == text


def test_a_file_that_is_being_written_is_waited_for(rwlock, tmp_path):
    """Another stage of DVC is between emptying and writing."""
    said = []
    with make_lock(f"{rwlock}.lock", tmp_dir=str(rwlock.parent)):
        rwlock.write_text("")
        mending = threading.Thread(target=mend, args=(tmp_path, said.append))
        mending.start()
        time.sleep(0.7)
        assert mending.is_alive()
        rwlock.write_text('{"read": {}}')
    mending.join(20)
    assert not mending.is_alive()
    assert (rwlock.read_text(), said) == ('{"read": {}}', [])
