"""One cluster in namespaces for all tests here: it takes seconds to start."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))  # small_project
sys.path.insert(0, str(Path(__file__).parent))  # lab and record, for tests alone

from lab import laboratory

from infra.nodes import missing


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A head without CPUs for training, two nodes with one each, and S3."""
    if lacks := missing():
        pytest.skip(f"Ray nodes in network namespaces need {'; '.join(lacks)}")
    # Another run of these tests may be on this machine.
    with laboratory(
        f"kmf{os.getpid() % 10**7}", tmp_path_factory.mktemp("lab")
    ) as found:
        yield found
