"""What a cluster lacks is told by name, in seconds, before anything is trained."""

import subprocess
import sys

import pytest
from lab import ROOT, TOKEN

from kmunet.errors import FAILED, TRANSIENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def paths(lab):
    return lab.workspace("refused", max_failures=0)


def _refused(lab, paths, code=FAILED, **env):
    process = lab.start(paths, **env)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == code, out
    return out.strip().splitlines()[-1]


def test_a_wrong_token(lab, paths):
    said = _refused(lab, paths, RAY_AUTH_TOKEN="x" * len(TOKEN))
    assert "the token is missing or another; set RAY_AUTH_MODE=token" in said


def test_no_head(lab, paths):
    said = _refused(lab, paths, TRANSIENT, RAY_ADDRESS=f"{lab.network.host}:1")
    assert "no Ray answers" in said
    assert "unset it to train on this machine alone" in said


def test_too_few_cpus(lab):
    paths = lab.workspace("wide", workers=[4, 8])
    said = _refused(lab, paths)
    assert "needs 4 CPUs and the Ray cluster has 2: lower them or add nodes" in said


def test_a_folder_for_checkpoints_that_nodes_do_not_have(lab, paths):
    said = _refused(lab, paths, KMUNET_STORAGE="")
    assert "set KMUNET_STORAGE to s3://bucket/prefix" in said


def test_a_node_without_keys_for_s3(lab, paths):
    node = lab.nodes[3]
    node.kill()
    env = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    try:
        lab.node(3, **env).start(lab.head.address)
        lab.head.wait(3)
        said = _refused(lab, paths)
    finally:
        lab.nodes[3].kill()
        lab.nodes[3] = node
        node.start(lab.head.address)
        lab.head.wait(3)
    assert f"node {node.name}: s3://kmunet/checkpoints" in said
    assert "access denied" in said


def test_a_node_with_another_version(lab, paths):
    """The driver says that it has another numpy than the nodes."""
    code = (
        "from pipelines import ray_code, ray_backend, stage, train\n"
        "def versions():\n"
        "    return ray_code.versions() | {'numpy': '0.1'}\n"
        "ray_backend.versions = versions\n"
        "raise SystemExit(stage.stage_main('train', train.run))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--dataset", "synthetic"], cwd=paths.root,
        env=lab.env(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == FAILED, done.stderr
    assert f"node {lab.network.name}-" in done.stderr
    assert "the driver 0.1: install the same there" in done.stderr
