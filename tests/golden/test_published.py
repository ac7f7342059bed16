"""Published checkpoints load as they are, and nothing else does."""

import pytest
import torch

from kmunet.errors import CheckpointError
from kmunet.models import build_model, load_published


@pytest.fixture(scope="module")
def model():
    return build_model("km_unet")


@pytest.fixture
def published(golden, model):
    return golden.state_dict(model)


def test_401_names_load_and_the_unused_are_left_out(golden, model, published):
    assert len(published) == 401
    load_published(model, published)
    loaded = model.state_dict()
    assert published.keys() > loaded.keys()
    assert all(torch.equal(loaded[name], published[name]) for name in loaded)
    parameters = {name for name, _ in model.named_parameters()}
    left_out = {str(name) for name in golden.values["unused"]}
    assert left_out.isdisjoint(parameters)
    assert left_out | parameters | set(loaded) <= set(published)


def test_wrapper_and_data_parallel_prefix(golden, published):
    fresh = build_model("km_unet")
    wrapped = {"module." + name: tensor for name, tensor in published.items()}
    load_published(fresh, {"epoch": 3, "state_dict": wrapped})
    assert torch.equal(fresh.state_dict()["ss2d_1.Ds"], published["ss2d_1.Ds"])


def test_own_state_dict_loads_too(model):
    load_published(build_model("km_unet"), model.state_dict())


def test_the_rest_of_u_kan_is_not_taken_for_unused(model):
    u_kan = build_model("u_kan")
    weights = u_kan.state_dict()
    load_published(u_kan, weights)
    del weights["dblock1.0.norm2.weight"]
    with pytest.raises(CheckpointError, match=r"missing: dblock1\.0\.norm2\.weight"):
        load_published(u_kan, weights)


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


REFUSED = {
    "unknown": (lambda s: s | {"extra.weight": torch.zeros(1)}, r"unknown: extra\.w"),
    "missing": (lambda s: without(s, "ema1.gn.weight"), r"missing: ema1\.gn\.weight"),
    "shape": (
        lambda s: s | {"final.weight": torch.zeros(2, 16, 1, 1)},
        r"not fitting: final\.weight \(\(2, 16, 1, 1\), expected \(1, 16, 1, 1\)\)",
    ),
    "no tensor": (lambda s: s | {"final.bias": "0"}, r"final\.bias \(a str, not a"),
    "empty": (lambda s: {}, "holds no state dict"),
    "near the unused": (
        lambda s: s | {"cbam9.x": torch.zeros(1)},
        r"unknown: cbam9\.x",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_tensor_and_leave_the_model_alone(model, published, case):
    change, message = REFUSED[case]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    broken = change({k: torch.as_tensor(v) + 1 for k, v in published.items()})
    with pytest.raises(CheckpointError, match=message):
        load_published(model, broken)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_long_list_is_cut(model, published):
    extra = {f"x{i}": torch.zeros(1) for i in range(50)}
    with pytest.raises(CheckpointError, match="and 42 more"):
        load_published(model, published | extra)


def test_another_model_is_refused(published):
    with pytest.raises(CheckpointError, match="do not fit UKAN"):
        load_published(build_model("u_kan"), published)
