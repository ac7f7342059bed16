"""One Ray for all tests here: it takes seconds to start."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def ray_cluster():
    import ray

    from pipelines.ray_cluster import TRAIN

    sys.path.insert(0, str(HERE))
    path = os.pathsep.join([str(ROOT), str(HERE)])
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=150 * 2**20,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, **TRAIN}},
    )
    yield ray
    ray.shutdown()
    sys.path.remove(str(HERE))
