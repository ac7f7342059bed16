import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_project, for tests alone

from small_project import make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")
