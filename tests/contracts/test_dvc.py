"""dvc.yaml: every stage names the code that it runs, so that no cache hit is stale."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# What decides no value: arguments, places, addresses of services, bars, quiet.
PLUMBING = {"pipelines/stage", "pipelines/paths", "pipelines/quiet",
            "pipelines/progress", "pipelines/signals", "pipelines/__init__",
            "kmunet/__init__",
            "kmunet/errors", "kmunet/config", "kmunet/device",
            "kmunet/class_names", "kmunet/widths", "kmunet/yaml_file",
            "pipelines/profile", "pipelines/storage",
            "pipelines/ray_checkpoints", "pipelines/ray_cluster",
            "pipelines/ray_code", "pipelines/ray_join",
            "pipelines/patient_files", "pipelines/address",
            "pipelines/tracking_place", "pipelines/tracking_store"}  # fmt: skip
# Look on and tell others: neither they nor what they import for it decide a value.
ONLOOKERS = {"pipelines/live", "pipelines/onlookers", "pipelines/tracking_live"}


def _imports(module: str) -> set[str]:
    """Modules of this project that a file imports, as paths without .py."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {path for name in names for path in _files(name)}
    return found


def _files(name: str) -> list[str]:
    path = name.replace(".", "/")
    if path.split("/")[0] not in ("kmunet", "pipelines"):
        return []
    options = [path, f"{path}/__init__"]
    return [option for option in options if (ROOT / f"{option}.py").is_file()]


def _closure(module: str) -> set[str]:
    seen, todo = set(), {module}
    while todo:
        seen |= todo
        todo = {name for item in todo - ONLOOKERS for name in _imports(item)} - seen
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_that_a_stage_runs_is_among_its_deps(stage):
    deps = STAGES[stage]["deps"]
    code = _closure(f"pipelines/{stage}") - PLUMBING - ONLOOKERS
    missing = {
        module
        for module in code
        if not any(f"{module}.py" == dep or module.startswith(f"{dep}/")
                   for dep in deps)
    }  # fmt: skip
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_every_code_dep_exists(stage):
    deps = [dep for dep in STAGES[stage]["deps"] if "$" not in dep]
    assert all((ROOT / dep).exists() for dep in deps if not dep.startswith("data/"))


@pytest.fixture
def params():
    found = yaml.safe_load((ROOT / "params.yaml").read_text())
    return {**found, "datasets": ["busi", "cvc"]}


@pytest.fixture
def dvc(params, tmp_path):
    """Real DVC, on the params that dvc.yaml names for train and register."""
    stages = {
        name: {**STAGES[name], "cmd": f"echo > {name}-${{item.ds}}", "deps": [],
               "outs": [f"{name}-${{item.ds}}"]}
        for name in ("train", "register")
    }  # fmt: skip
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))

    def run(*arguments):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    run("init", "--no-scm", "--quiet")
    run("repro", "--quiet")
    return run


def test_a_change_of_evaluate_registers_again(dvc, params):
    """All of it is in a version's identity."""
    params["evaluate"]["bootstrap"] += 1
    assert set(json.loads(dvc("status", "--json"))) == {"register@busi", "register@cvc"}


def test_a_change_of_an_unused_preset_makes_nothing_stale(dvc, params):
    params["presets"]["ultrasound"][0]["args"]["p"] = 0.9
    assert json.loads(dvc("status", "--json")) == {}
    params["presets"]["paper"][0]["args"]["p"] = 0.9
    (change,) = json.loads(dvc("status", "--json"))["train@cvc"]
    assert change["changed deps"]["params.yaml"] == {"presets.paper": "modified"}
    params["presets"]["paper"][0]["args"]["p"] = 0.5
    params["augment"] = "ultrasound"
    assert "presets.ultrasound" in dvc("status", "--json")


def test_the_lock_is_of_this_code():
    """A stale lock would make the first `make demo` of a clone leave git unclean."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    changes = [
        (name, kind)
        for stage in json.loads(done.stdout).values()
        for item in stage
        if isinstance(item, dict)
        for name, kind in item.get("changed deps", {}).items()
        if name.startswith(("kmunet", "pipelines", "params.yaml"))
    ]
    assert changes == [], "run `make demo` and commit dvc.lock with the change"
