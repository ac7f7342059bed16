"""Deep supervision, presence, stochastic depth: what is weighed, and what stays."""

from dataclasses import replace

import pytest
import runs
import torch
from safetensors.torch import load_file
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from kmunet.errors import ConfigError
from kmunet.models import build_model
from kmunet.models.presence import Decided, pool
from kmunet.nn.kan_block import KANBlock
from kmunet.training import LocalReporter, fit
from kmunet.training.losses import LOSSES
from kmunet.training.supervision import PRESENCE_WEIGHT, present, supervise

SMALL = (16, 6, 10)


@pytest.mark.parametrize("name", ["km_unet", "u_kan"])
def test_training_gives_logits_of_every_depth_at_full_size(name):
    torch.manual_seed(0)
    model = build_model(name, widths=SMALL, deep_supervision=True, num_classes=2)
    outputs = model.train()(torch.randn(2, 3, 40, 50))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 2, 40, 50)] * 4
    sum(logits.sum() for logits in outputs).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval()(torch.randn(2, 3, 40, 50)).shape == (2, 2, 40, 50)


def test_without_it_the_model_draws_the_same_weights():
    found = []
    for more in ({}, {"deep_supervision": True}):
        torch.manual_seed(0)
        found.append(build_model("km_unet", widths=SMALL, **more).state_dict())
    plain, deep = found
    assert all(torch.equal(plain[name], deep[name]) for name in plain)
    assert {name.split(".")[0] for name in deep.keys() - plain.keys()} == {"heads"}


def test_the_deeper_a_head_the_less_it_weighs():
    target = (torch.rand(2, 1, 8, 8) > 0.5).float()
    whole = tuple(torch.randn(2, 1, 8, 8) for _ in range(3))
    loss = LOSSES["bce_dice"]
    logits, found = supervise(loss, whole, target)
    first, second, third = (loss(each, target) for each in whole)
    torch.testing.assert_close(found, (4 * first + 2 * second + third) / 7)
    assert logits is whole[0]
    torch.testing.assert_close(supervise(loss, whole[1], target)[1], second)


def test_a_baseline_without_it_says_so():
    with pytest.raises(ConfigError, match=r"model\.deep_supervision: unet has none"):
        build_model("unet", deep_supervision=True)


def test_a_layer_is_dropped_from_whole_images_in_training_alone():
    torch.manual_seed(0)
    block = KANBlock(6, drop_path=0.25).double()
    x = torch.randn(400, 1, 1, 6).double()
    block.eval()
    update = block(x) - x
    block.layer.eval()
    block.training = True  # norms as in evaluation: only the dropping is left
    scale = ((block(x) - x) / update).flatten(1).nanmedian(1).values
    kept = scale > 0.5
    torch.testing.assert_close(scale[kept], torch.full_like(scale[kept], 4 / 3))
    assert (scale[~kept].abs() < 1e-4).all()
    assert abs(kept.float().mean().item() - 0.75) < 0.08


def test_both_are_trained_and_repeat_themselves(data, params, tmp_path):
    states = []
    for run in ("a", "b"):
        torch.manual_seed(0)
        model = build_model(
            "km_unet", widths=(32, 40, 48), deep_supervision=True, drop_path=0.5
        )
        states.append(fit(model, data, params(epochs=2), LocalReporter(tmp_path / run)))
    assert states[0] == states[1]
    best = load_file(tmp_path / "a" / "latest" / "best.safetensors")
    assert "heads.2.weight" in best
    losses = [row["train_loss"] for row in states[0].history]
    assert losses[1] < losses[0]


def test_beside_each_depth_it_is_taught_whether_there_is_anything():
    torch.manual_seed(0)
    target = torch.zeros(3, 1, 8, 8)
    target[0, 0, 2:4, 2:5] = 1
    target[2, 0, 0, 0] = 1
    maps = tuple(torch.randn(3, 1, 8, 8) for _ in range(2))
    found = tuple(torch.randn(3, 1) for _ in range(2))
    truth = torch.tensor([[1.0], [0], [1]])
    loss = LOSSES["bce_dice"]
    logits, whole = supervise(loss, Decided(maps, found), target)
    first, second = (
        loss(m, target) + PRESENCE_WEIGHT * cross_entropy(f, truth)
        for m, f in zip(maps, found, strict=True)
    )
    torch.testing.assert_close(whole, (2 * first + second) / 3)
    assert logits is maps[0]
    alone = supervise(loss, Decided(maps[:1], found[:1]), target)[1]
    torch.testing.assert_close(alone, first)


def test_of_several_classes_each_is_there_or_not():
    target = torch.zeros(3, 1, 4, 4)
    target[0, 0, 0, :2] = torch.tensor([1.0, 3])
    target[1, 0, 1, 1] = 2
    assert present(target, 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


class Some(runs.Squares):
    """Every other image is noise alone."""

    def __getitem__(self, key):
        item = super().__getitem__(key)
        if key[1] % 2:
            item["image"][:, item["mask"] > 0] -= 120
            item["mask"].zero_()
        return item


def test_an_image_s_decision_is_learnt(data, params, tmp_path):
    some = replace(data, train=Some(16, 1), validation=Some(6, 2))
    torch.manual_seed(0)
    model = build_model("km_unet", widths=(32, 40, 48), presence=True)
    fit(model, some, params(epochs=20, lr=3e-3), LocalReporter(tmp_path))
    items = some.validation.collate([some.validation[0, n] for n in range(6)])
    x = (items["image"] / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        evidence = pool(model.eval().network(x)[:, 1:])[:, 0]
        drawn = (model(x) > 0).flatten(1).any(1)
    assert evidence[0::2].min() > evidence[1::2].max() + 1
    assert drawn.tolist() == 3 * [True, False]
