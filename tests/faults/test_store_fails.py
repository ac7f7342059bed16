"""The S3 server is away while a training runs, and while one starts."""

import time

import pytest
import torch
from lab import finish, until
from record import record
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def paths(lab):
    return lab.workspace("store", epochs=8)


def test_an_outage_of_a_minute_is_waited_for(lab, paths):
    finish(lab.start(paths))
    expected = load_file(paths.model / "model.safetensors")
    process = lab.start(paths)
    try:
        until(lambda: len(lab.wholes()) >= 2, process)
        before = lab.pids()
        lab.cease()
        start = time.monotonic()
        time.sleep(60)
        assert process.poll() is None
        lab.serve()
        back, old = time.monotonic(), lab.wholes()
        until(lambda: lab.wholes() - old, process)
        seconds = time.monotonic() - back
        assert lab.pids() == before  # nobody was started anew
        out = finish(process)
    finally:
        process.kill()
        process.communicate()
        lab.mend()
    found = load_file(paths.model / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert "Traceback" not in out
    assert time.monotonic() - start > 60
    what = "the training waits in its save, and tries again every 1 to 15 s"
    kept = "all; the same bits, and no worker is started anew"
    record(
        "the S3 server away for 60 s (seconds: after it is back)", what, kept, seconds
    )


def test_an_outage_that_lasts_ends_the_run_and_the_next_one_resumes(lab, paths):
    process = lab.start(paths, KMUNET_STORAGE_PATIENCE="5")
    try:
        first = until(lab.wholes, process)
        until(lambda: not first <= lab.wholes(), process)  # so epoch 1 is over
        lab.cease()
        start = time.monotonic()
        out, _ = process.communicate(timeout=200)
        seconds = time.monotonic() - start
        assert process.returncode == 2, out
        assert "error: train: " in out
        assert "connection refused" in out
    finally:
        lab.serve()
        process.kill()
        process.communicate()
    out = finish(lab.start(paths))
    assert "epoch 1/8" not in out
    lab.mend()
    what = "error naming the store, exit code 2; the same command resumes"
    kept = "all up to the last checkpoint"
    record(
        "the S3 server away for longer than is waited (here 5 s)", what, kept, seconds
    )
