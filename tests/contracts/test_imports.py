"""What computes needs torch and numpy alone: a GPU machine may have nothing else."""

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKED = ("ray", "prefect", "mlflow", "dvc", "pydantic", "albumentations", "monai",
           "boto3", "pandas", "matplotlib", "rich", "sklearn", "safetensors",
           "cv2")  # fmt: skip
CODE = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import {module}
"""


@pytest.mark.parametrize(
    "module",
    ["kmunet.ops", "kmunet.nn", "kmunet.models", "kmunet.training"],
)
def test_it_imports_with_torch_and_numpy_alone(module):
    code = CODE.format(blocked=BLOCKED, module=module)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_tests_of_the_operators_need_pytest_besides():
    code = CODE.format(blocked=BLOCKED, module="pytest")
    code += "sys.exit(pytest.main(['--collect-only', '-q', 'tests/ops']))"
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["ray", "mlflow"])
def test_only_the_named_files_import_it(package):
    allowed = {
        "ray": ("ray_*.py",),
        "mlflow": ("tracking*.py", "pyfunc.py", "apply.py"),
    }[package]
    found = {
        path.name
        for path in (ROOT / "pipelines").glob("*.py")
        if any(
            line.lstrip().startswith((f"import {package}", f"from {package}"))
            for line in path.read_text().splitlines()
        )
    }
    assert [n for n in found if not any(fnmatch(n, a) for a in allowed)] == []
