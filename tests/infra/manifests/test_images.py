"""The Dockerfiles, by hadolint and by what they promise."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment_files import INFRA, ROOT

FILES = sorted((INFRA / "docker").glob("*.Dockerfile"))


def lint(file):
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if not tool:
        pytest.skip("hadolint is not installed (make test brings it)")
    return subprocess.run([tool, str(file)], capture_output=True, text=True)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_hadolint_finds_nothing(file):
    done = lint(file)
    assert done.returncode == 0, done.stdout


def test_a_mistake_is_seen(tmp_path):
    text = FILES[0].read_text("utf-8").replace("USER 1000:1000", "USER root")
    broken = tmp_path / "Dockerfile"
    broken.write_text(text.replace("python:3.12.12-slim-bookworm", "python:latest"))
    assert lint(broken).returncode != 0


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_base_is_pinned_the_user_not_root_and_health_told(file):
    text = file.read_text("utf-8")
    assert re.search(r"^ARG BASE=python:3\.12\.\d+-slim-\w+$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    assert "HEALTHCHECK" in text
    assert "--constraint" in text
    assert not re.search(r"(?i)(secret|password|token)\w*=", text)


def test_only_what_is_needed_is_sent_to_the_builder():
    """All is left out but what the images copy: no data, no git, no .env."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in sent)
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages | {"pyproject.toml", "constraints.txt"} <= sent
    assert "**/*.env" in rules


def test_the_workers_script_is_a_shells():
    script = INFRA / "docker" / "worker.sh"
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
