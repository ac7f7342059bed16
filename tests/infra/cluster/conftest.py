"""One whole stack a session, of a small project; PostgreSQL's user can reach it."""

import pytest
from cluster import Cluster, check_installed, open_folder, running
from small_project import make_project


@pytest.fixture(scope="session")
def installed():
    """Skips, saying why, where a part of the stack is not installed."""
    check_installed()


@pytest.fixture(scope="session")
def reachable():
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cluster(installed, reachable):
    root = make_project(reachable / "project")
    yield from running(Cluster.of(root))
