"""Deep supervision and stochastic depth: what is weighed, and what stays the same."""

import pytest
import torch
from safetensors.torch import load_file

from kmunet.errors import ConfigError
from kmunet.models import build_model
from kmunet.nn.kan_block import KANBlock
from kmunet.training import LocalReporter, fit
from kmunet.training.losses import LOSSES
from kmunet.training.supervision import supervise

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
