"""The buckets of a profile, on a real S3 server."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.buckets import buckets, make
from kmunet.errors import RemoteError
from pipelines.profile import Profile

RCLONE = Path(sys.executable).parent / "rclone"
KEY, SECRET = "key", "secret-of-the-test"


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A server that starts half a second after it is asked for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    if not RCLONE.exists():
        pytest.skip("rclone is not installed (make test brings it)")
    server = subprocess.Popen(
        ["sh", "-c", 'sleep 0.5; exec "$@"', "sh", str(RCLONE), "serve", "s3",
         "--addr", address, "--auth-key", f"{KEY},{SECRET}", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield tmp_path
    server.kill()
    server.wait()


def test_they_are_those_of_all_s3_addresses():
    profile = Profile(storage="s3://b/checkpoints", dvc_remote="s3://a/dvc")
    assert buckets(profile) == ["a", "b"]
    assert buckets(Profile(storage="/folder")) == []


def test_missing_ones_are_made_once(s3):
    assert make(["one", "two"]) == ["one", "two"]  # though the server has yet to start
    assert sorted(path.name for path in s3.iterdir()) == ["one", "two"]
    assert make(["one", "two"]) == []


def test_who_is_refused_does_not_wait(s3, monkeypatch):
    make([])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(RemoteError, match="access denied"):
        make(["one"])


def test_a_server_that_never_answers_is_named(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"127.0.0.1:9.*no connection"):
        make(["one"], patience=0)
