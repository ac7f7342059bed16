"""The commands of benchmarks/README.md that are for a machine lent by the minute."""

from types import SimpleNamespace

import tests.conftest as spread


def test_worksteal_is_xdist_s_own():
    """Else all tests of a folder run in one process, whatever -n says."""
    asked = SimpleNamespace(getoption={"dist": "worksteal"}.get)
    assert spread.pytest_xdist_make_scheduler(asked, None) is None


def test_folders_stay_together_otherwise():
    values = {"dist": "loadscope", "tx": ["popen", "popen"], "maxprocesses": None}
    asked = SimpleNamespace(
        getoption=values.get, getvalue=values.get, hook=None, option=None
    )
    by_folder = spread.pytest_xdist_make_scheduler(asked, None)
    scopes = {
        by_folder._split_scope(f"tests/{file}::test_it")
        for file in ("ops/test_contract.py", "ops/triton/test_triton.py")
    }
    assert scopes == {"ops"}
