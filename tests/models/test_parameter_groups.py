"""Optimizer groups by module type: each parameter in one, with the right settings."""

import pytest
import torch
from torch import nn

from kmunet.models import MODELS, build_model, parameter_groups
from kmunet.nn import SS2D, KANLinear

SMALL = (16, 6, 10)


def groups_of(model):
    found = parameter_groups(model, lr=0.123, kan_lr=0.456, weight_decay=0.01)
    return {group["name"]: group for group in found}


def members(model, group):
    ids = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("name", MODELS)
def test_each_parameter_in_exactly_one(name):
    model = build_model(name, widths=SMALL)
    placed = [id(p) for g in groups_of(model).values() for p in g["params"]]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())


def test_settings():
    groups = groups_of(build_model("km_unet", widths=SMALL))
    settings = {k: (g["lr"], g["weight_decay"]) for k, g in groups.items()}
    assert settings == {
        "base": (0.123, 0.01),
        "no_decay": (0.123, 0.0),
        "kan": (0.456, 0.01),
    }


def test_who_is_where():
    model = build_model("km_unet", widths=SMALL)
    groups = {k: members(model, g) for k, g in groups_of(model).items()}
    for path, module in model.named_modules():
        own = {f"{path}.{n}" for n, _ in module.named_parameters(recurse=False)}
        if isinstance(module, KANLinear):
            assert own <= groups["kan"]
        elif isinstance(module, (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)):
            assert own <= groups["no_decay"]
        elif isinstance(module, SS2D):
            plain = {f"{path}.x_proj_weight", f"{path}.dt_projs_weight"}
            assert own & groups["base"] == plain
            assert own - plain <= groups["no_decay"]
        else:
            biases = {name for name in own if name.endswith(".bias")}
            assert own - biases <= groups["base"]
            assert biases <= groups["no_decay"]


def test_plain_linears_learn_at_the_base_rate():
    model = build_model("km_unet", widths=SMALL, kan=False)
    groups = groups_of(model)
    assert "kan" not in groups
    assert "block1.0.layer.fc1.weight" in members(model, groups["base"])


def test_frozen_parameters_are_left_out():
    model = build_model("km_unet", widths=SMALL)
    model.encoder1.requires_grad_(False)
    names = set().union(*(members(model, g) for g in groups_of(model).values()))
    assert not [n for n in names if n.startswith("encoder1.")]


def test_the_same_order_every_time():
    found = []
    for _ in range(2):
        model = build_model("km_unet", widths=SMALL)
        names = {id(p): n for n, p in model.named_parameters()}
        groups = groups_of(model)
        found.append(
            [(k, names[id(p)]) for k, g in groups.items() for p in g["params"]]
        )
    assert found[0] == found[1]


def test_an_optimizer_takes_them():
    model = build_model("km_unet", widths=SMALL)
    optimizer = torch.optim.AdamW(list(groups_of(model).values()))
    assert [g["name"] for g in optimizer.param_groups] == ["base", "no_decay", "kan"]
    before = model.ss2d_1.A_logs.clone()
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.ss2d_1.A_logs, before)
