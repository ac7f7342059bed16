"""Workers and nodes that go while a training runs: killed, or cut off the network."""

import os
import random
import time

import pytest
import torch
from lab import finish, until
from record import record
from safetensors.torch import load_file

from kmunet.config import load_params
from kmunet.data.store import open_packed
from kmunet.training import LocalReporter
from pipelines.train import train_worker, worker_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = {"epochs": 8}  # of 2 steps, each of them saved
BITS = "all but the steps since the last checkpoint; the same bits as undisturbed"
ROUNDING = "all but the steps since the last checkpoint; the same to rounding"


@pytest.fixture(scope="module")
def paths(lab):
    return lab.workspace("fixed", **LONG)


@pytest.fixture(scope="module")
def undisturbed(lab, paths):
    """The weights of two workers whom nothing happens to."""
    finish(lab.start(paths))
    return load_file(paths.model / "model.safetensors")


@pytest.fixture
def process(lab, paths, undisturbed):
    """The same training on its way, with two checkpoints saved."""
    started = lab.start(paths)
    until(lambda: len(lab.wholes()) >= 2, started)
    yield started
    started.kill()
    started.communicate()
    lab.mend()


def same_bits(paths, expected):
    found = load_file(paths.model / "model.safetensors")
    return all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_killed_worker_costs_no_more_than_its_last_steps(
    lab, paths, process, undisturbed
):
    time.sleep(random.uniform(0, 5))
    before, start = lab.pids(), time.monotonic()
    os.kill(random.choice(sorted(before)), 9)
    seconds = lab.again(process, before, start)
    finish(process)
    assert same_bits(paths, undisturbed)
    what = "both workers start again from the last checkpoint"
    record("a training worker killed at a random step", what, BITS, seconds)


def test_a_fixed_number_of_workers_waits_for_its_node(lab, paths, process, undisturbed):
    before, start = lab.pids(), time.monotonic()
    lab.nodes[3].kill()
    time.sleep(40)
    assert process.poll() is None
    lab.nodes[3].start(lab.head.address)
    seconds = lab.again(process, before, start)
    finish(process)
    assert same_bits(paths, undisturbed)
    what = "workers: 2 waits, and goes on when the node is back (here after 40 s)"
    record("a node killed, all its processes; fixed workers", what, BITS, seconds)


def test_a_node_that_is_cut_off_is_given_up_and_taken_back(
    lab, paths, process, undisturbed
):
    before, start = lab.pids(), time.monotonic()
    lab.nodes[3].cut_off()
    until(lambda: lab.head.count() == 3, process)  # of 4 with the driver's
    lab.nodes[3].join_again()
    seconds = lab.again(process, before, start)
    finish(process)
    assert same_bits(paths, undisturbed)
    what = "Ray gives it up after 65 s; back on the network, it joins anew by itself"
    record("a node cut off the network, fixed workers", what, BITS, seconds)


def test_a_short_cut_is_only_waited_for(lab, paths, process, undisturbed):
    before, start = lab.pids(), time.monotonic()
    lab.nodes[3].cut_off()
    time.sleep(15)
    lab.nodes[3].join_again()
    old = lab.wholes()
    until(lambda: lab.wholes() - old, process)
    seconds = time.monotonic() - start
    finish(process)
    assert same_bits(paths, undisturbed)
    assert before
    what = "the workers wait for each other's packets, and go on"
    record("a node cut off for 15 s", what, "all; the same bits", seconds)


def test_a_killed_driver_leaves_nothing_running_and_is_resumed(
    lab, paths, process, undisturbed
):
    first = lab.wholes()
    until(lambda: not first <= lab.wholes(), process)  # so epoch 1 is over, and known
    start = time.monotonic()
    process.kill()
    process.wait()
    while lab.pids() or lab.head.count() > len(lab.nodes):
        assert time.monotonic() - start < 120
        time.sleep(0.5)
    gone, kept = time.monotonic() - start, lab.wholes()
    second = lab.start(paths)
    until(lambda: lab.wholes() - kept, second)
    seconds = time.monotonic() - start
    assert "epoch 1/8" not in finish(second)
    assert same_bits(paths, undisturbed)
    what = f"its workers and its node end (here in {gone:.0f} s); run again, it resumes"
    record("the driver killed, started again", what, BITS, seconds)


def test_elastic_workers_go_on_with_fewer_and_take_the_node_back(lab, tmp_path):
    paths = lab.workspace("elastic", workers=[1, 2], epochs=40)
    process = lab.start(paths, KMUNET_ELASTIC_SECONDS="10")
    try:
        until(lambda: len(lab.wholes()) >= 2, process)
        before, start = lab.pids(), time.monotonic()
        lab.nodes[3].kill()
        seconds = lab.again(process, before, start)
        assert len(lab.pids()) == 1
        what = "workers: [1, 2] goes on with one"
        record("a node killed, elastic workers", what, ROUNDING, seconds)
        before, start = lab.pids(), time.monotonic()
        lab.nodes[3].start(lab.head.address)
        seconds = lab.again(process, before, start)
        assert len(lab.pids()) == 2
        what = (
            "both workers start from the checkpoint at the next look (here each 10 s)"
        )
        record("the node is back, elastic workers", what, ROUNDING, seconds)
        finish(process)
    finally:
        process.kill()
        process.communicate()
        lab.mend()
    params = load_params(paths.params)
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    train_worker(worker_config(params, paths, packed), LocalReporter(tmp_path))
    found = load_file(paths.model / "model.safetensors")
    for name, value in load_file(tmp_path / "latest/best.safetensors").items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=5e-4)
