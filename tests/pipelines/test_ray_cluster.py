"""Starting Ray here, where it does not come up."""

import pytest
import ray

from kmunet.errors import UnavailableError
from pipelines.ray_cluster import connect


@pytest.fixture
def slow(monkeypatch):
    """As Ray gives up after half a minute on a machine that others keep busy."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(**options):
        raise Exception("The current node timed out during startup. This could happen.")

    monkeypatch.setattr(ray, "init", init)


def test_a_machine_too_busy_for_ray_may_be_less_so_later(slow):
    with pytest.raises(UnavailableError, match=r"timed out .* run the same command ag"):
        connect(1)


def test_other_errors_are_nobody_elses(slow, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")

    def init(**options):
        raise ValueError("an option that is none")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="an option that is none"):
        connect(1)
