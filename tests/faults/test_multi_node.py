"""Two nodes without a shared folder train what one process does, to rounding."""

import json
import os
import subprocess
import sys

import pytest
import torch
from lab import HERE, ROOT, finish
from safetensors.torch import load_file


def _noted(lab, paths, name, *how, **env):
    """Run `noted`; its notes by rank, its history and its weights."""
    folder = paths.root / name
    folder.mkdir()
    command = [sys.executable, "-c", "import noted; noted.main()", str(folder), *how]
    environment = lab.env(PYTHONPATH=os.pathsep.join([str(ROOT), str(HERE)]), **env)
    finish(
        subprocess.Popen(
            command, cwd=paths.root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )
    )  # fmt: skip
    state = json.loads((folder / "state.json").read_text())
    notes = json.loads((folder / "noted.json").read_text())
    return notes, state["history"], load_file(folder / "weights.safetensors")


@pytest.fixture(scope="module")
def runs(lab):
    """The same training in this machine's one process, and on two nodes."""
    paths = lab.workspace("same", checkpoint_steps=None)
    alone = _noted(lab, paths, "alone", "local", RAY_ADDRESS="")
    return alone, _noted(lab, paths, "apart")


def test_each_rank_is_on_a_node_of_its_own(runs, lab):
    _, (notes, _, _) = runs
    names = [lab.nodes[number].name for number in (2, 3)]
    assert sorted(note["node"] for note in notes) == names


def test_the_samples_are_the_same_each_step(runs):
    (alone, _, _), (apart, _, _) = runs
    share = 4
    for start in range(0, len(alone[0]["samples"]), 2 * share):
        whole = alone[0]["samples"][start : start + 2 * share]
        parts = [n["samples"][start // 2 : start // 2 + share] for n in apart]
        assert whole == [*parts[0], *parts[1]]


def test_the_losses_of_each_step_and_the_weights_are_the_same_to_rounding(runs):
    (alone, history, weights), (apart, histories, shared) = runs
    assert len(alone[0]["losses"]) == 6
    parts = [note["losses"] for note in apart]
    means = [sum(step) / 2 for step in zip(*parts, strict=True)]
    assert means == pytest.approx(alone[0]["losses"], rel=5e-5)
    for one, many in zip(history, histories, strict=True):
        # A count: an input on the edge of a spline's grid may lie on either side.
        outside = one.pop("kan_outside"), many.pop("kan_outside")
        assert outside[1] == pytest.approx(outside[0], abs=1e-4)
        assert many == pytest.approx(one, rel=5e-5)
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=5e-4)


def test_the_data_came_by_content_once_to_each_node(runs, lab):
    for number in (2, 3):
        found = lab.folder / f"node{number}/cache/kmunet/content"
        assert len([p for p in found.iterdir() if not p.name.startswith(".")]) == 2
    assert not (lab.folder / "node1/cache/kmunet/content").exists()


def test_nothing_is_left_on_the_drivers_machine(runs, lab):
    assert not list((lab.folder / "workspaces/same").glob(".kmunet/ray/*"))
