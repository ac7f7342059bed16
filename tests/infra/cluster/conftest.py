"""One whole stack a session, of a small project; PostgreSQL's user can reach it."""

import shutil
import tempfile
from pathlib import Path

import pytest
from cluster import Cluster, running
from small_project import make_project

from infra.cluster import services
from infra.cluster.place import Place
from infra.cluster.settings import choose
from kmunet.errors import ServiceError


@pytest.fixture(scope="session")
def installed():
    """Skips, saying why, where a part of the stack is not installed."""
    try:
        services.check_programs(choose(Place(Path("/nowhere")), {}, []))
    except ServiceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def reachable():
    """A folder through which others may pass: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="kmunet-cluster-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(installed, reachable):
    root = make_project(reachable / "project")
    yield from running(Cluster.of(root))
