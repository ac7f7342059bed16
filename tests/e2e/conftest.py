"""A checkout of the project with small params, in which the real flow runs once."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SMALL = {
    "synthesize": {"images": 48, "size": 48},
    "sources": {"synthetic": {"sizes": [32]}, "busi": {"sizes": [32]}},
    "model": {"widths": [32, 40, 48]},
    "train": {"epochs": 2, "batch_size": 8},
    "evaluate": {"bootstrap": 200, "overlays": 4},
}


@dataclass(frozen=True)
class Checkout:
    """A git checkout and how a user calls things in it."""

    root: Path

    def call(self, *command, timeout=500):
        """Run a command in the checkout, without this process's own Python path."""
        hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")
        env = {key: value for key, value in os.environ.items() if key not in hidden}
        return subprocess.run(
            command, cwd=self.root, env=env, capture_output=True, text=True,
            timeout=timeout,
        )  # fmt: skip

    def flow(self, *arguments):
        """`python -m flows.main`, as `make demo` and `make run` call it."""
        return self.call(".venv/bin/python", "-m", "flows.main", *arguments)

    def dvc(self, *arguments):
        return self.call(".venv/bin/python", "-m", "dvc", *arguments)

    def git(self, *arguments):
        return self.call("git", *arguments).stdout

    def commit(self, message):
        self.git("add", "-A")
        self.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)


def tracked_files():
    """What a clone would hold, uncommitted work included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = [name for name in listed.stdout.split("\0") if name]
    return [name for name in names if (ROOT / name).is_file() and name != "dvc.lock"]


def shrink(path):
    """Lower the sizes in params.yaml."""
    yaml = YAML()
    params = yaml.load(path)
    for section, values in SMALL.items():
        for key, value in values.items():
            if isinstance(value, dict):
                params[section][key].update(value)
            else:
                params[section][key] = value
    yaml.dump(params, path)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    for name in tracked_files():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    shrink(root / "params.yaml")
    (root / ".venv").symlink_to(sys.prefix)
    checkout = Checkout(root)
    checkout.git("init", "-q", "-b", "main")
    checkout.commit("project")
    return checkout


@pytest.fixture(scope="session")
def first_run(checkout):
    """The main job, run once; its dvc.lock is committed as a user would."""
    done = checkout.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    checkout.commit("results")
    return done
