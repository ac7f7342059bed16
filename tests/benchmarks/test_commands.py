"""The commands of benchmarks/README.md that are for a machine lent by the minute."""

import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import tests.conftest as spread

README = Path(__file__).parents[2] / "benchmarks" / "README.md"


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


def test_a_lent_machine_has_python3_alone():
    text = README.read_text(encoding="utf-8")
    lent = text.partition("## A GPU for ten minutes")[2].partition("## How data")[0]
    block = [part.splitlines()[1:] for part in lent.split("```")[1::2]]
    there = [line for line in chain(*block) if "# here" not in line]
    assert sum("python3 -m" in line for line in there) >= 7
    assert not [line for line in there if re.search(r"\bpython ", line)]
