"""The Ray reporter with real Ray Train workers: gather, progress, faults."""

import os
import signal

import pytest

from kmunet.errors import ConfigError, TrainingError, TrainingStoppedError
from pipelines.ray_backend import Cluster, run_on_ray


@pytest.fixture
def cluster(ray_cluster, tmp_path):
    def make(name, workers=2, max_failures=0, threads=1):
        return Cluster(workers, threads, False, max_failures, tmp_path / "ray", name)

    return make


def test_two_workers_meet_and_rank_0_checkpoints(cluster):
    import loops

    seen = []
    with run_on_ray(loops.count, {}, cluster("count"), seen.append) as folder:
        assert (folder / "epoch").read_text() == "3 3.0"
    assert seen
    assert seen[-1].epochs == 3


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_resumes(cluster, tmp_path):
    import loops

    starts = tmp_path / "starts"
    asked = cluster("die", max_failures=1)
    with run_on_ray(loops.die_once, {"starts": str(starts)}, asked, print) as folder:
        assert (folder / "epoch").read_text() == "3 0"
    assert starts.read_text().split() == ["0", "1"]


def test_a_users_error_arrives_as_it_was_said_and_is_not_tried_again(cluster, tmp_path):
    import loops

    config = {"starts": str(tmp_path / "starts")}
    asked = cluster("fail", workers=1, max_failures=2)
    with pytest.raises(TrainingError, match=r"^the loss is nan .* lower train\.lr$"):
        run_on_ray(loops.fail, config, asked, print)
    assert (tmp_path / "starts").read_text() == "start\n"


@pytest.mark.parametrize(
    "wish", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_lets_the_workers_save(cluster, tmp_path, wish):
    import loops

    def on_progress(progress):
        os.kill(os.getpid(), wish)

    before = signal.signal(wish, signal.SIG_IGN)  # the second one's
    try:
        with pytest.raises(TrainingStoppedError, match="stopped in epoch 1"):
            run_on_ray(loops.wait_to_be_stopped, {}, cluster("stop"), on_progress)
    finally:
        signal.signal(wish, before)
    assert list((tmp_path / "ray" / "stop").glob("checkpoint*/epoch"))


def test_more_cpus_than_the_cluster_has_is_an_error_not_a_wait(cluster):
    import loops

    with pytest.raises(ConfigError, match=r"needs 40 CPUs and the Ray cluster has 4"):
        run_on_ray(loops.count, {}, cluster("big", workers=2, threads=20), print)
