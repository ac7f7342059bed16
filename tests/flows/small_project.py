"""A small project with real git and DVC, whose stages take milliseconds."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def make_project(place: Path) -> Path:
    """Return a committed checkout with the real params.yaml and prefect.yaml."""
    place.mkdir()
    shutil.copy(HERE / "project" / "stage.py", place)
    # Under its own name DVC would take it for a part of the real pipeline.
    shutil.copy(HERE / "project" / "stages.yaml", place / "dvc.yaml")
    for name in ("params.yaml", "prefect.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, place)
    (place / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, place / ".dvc")
    (place / ".venv").symlink_to(sys.prefix)
    (place / "flows").symlink_to(ROOT / "flows")
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, *AUTHOR, "commit", "-qm", "start")
    return place


AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")


def commit(place: Path, message: str) -> str:
    """Commit all that there is; return the commit."""
    git(place, "add", "-A")
    git(place, *AUTHOR, "commit", "-qm", message)
    return git(place, "rev-parse", "HEAD").strip()


def make_upstream(place: Path, remote: str) -> Path:
    """Return a bare repository of the small project with code and DVC remote in it."""
    project = make_project(place / "upstream")
    (project / "flows").unlink()
    for name in ("flows", "pipelines", "kmunet", "infra"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, project)
    (project / ".venv").unlink()
    dvc(project, "remote", "add", "-d", "store", remote)
    commit(project, "with a remote")
    git(place, "clone", "-q", "--bare", str(project), "bare.git")
    return place / "bare.git"


def environment() -> dict[str, str]:
    """Return an environment without anyone else's server, in which we can be found."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return ours | {"PYTHONPATH": str(ROOT)}


def python(place: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=environment() | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def git(place: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=place, text=True)


def dvc(place: Path, *arguments: str) -> str:
    done = python(place, "-m", "dvc", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def gone(pids: list[int], limit: float = 20.0) -> bool:
    """Wait until none of the processes is alive; a zombie is not."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
