"""Whether there is anything in an image: what is pooled, and what it guards."""

import math

import pytest
import torch

from kmunet.models import MODELS, build_model
from kmunet.models.presence import PresenceGate, evidence_maps, gate, pool
from kmunet.models.registry import BASELINES

SMALL = (16, 6, 10)


@pytest.mark.parametrize(("height", "width"), [(10, 50), (100, 200)])
def test_the_odds_of_an_image_are_the_mean_of_its_pixels(height, width):
    evidence = torch.full((2, 3, height * width), -30.0)
    few = height * width // 500
    evidence[0] = torch.tensor([0.0, -4, 1.5])[:, None]
    evidence[1, 2, :few] = math.log(500) + 2
    found = pool(evidence.unflatten(2, (height, width)))
    torch.testing.assert_close(found, torch.tensor([[0, -4, 1.5], [-30, -30, 2]]))


def test_no_pixel_is_more_probable_than_that_there_is_anything():
    torch.manual_seed(0)
    logits = torch.randn(4, 1, 9, 7) * 3
    present = torch.tensor([[-9.0], [-1], [1], [9]])
    found = gate(logits, present).sigmoid()
    most = present.sigmoid()[:, :, None, None]
    torch.testing.assert_close(found, torch.minimum(logits.sigmoid(), most))
    assert (found[0] < 0.5).all()  # nothing is drawn
    assert torch.equal(found[3] > 0.5, logits[3].sigmoid() > 0.5)  # nothing is lost


def test_of_several_classes_the_background_has_what_they_lose():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 9, 7).double() * 3
    present = torch.tensor([[9.0, -9, 0], [40, 40, 40], [-40, -40, -40]]).double()
    found = gate(logits, present).softmax(1)
    classes = torch.minimum(
        logits.softmax(1)[:, 1:], present.sigmoid()[:, :, None, None]
    )
    torch.testing.assert_close(found[:, 1:], classes)
    torch.testing.assert_close(found[:, 0], 1 - classes.sum(1))
    torch.testing.assert_close(found[1], logits[1].softmax(0))
    assert (found[2].argmax(0) == 0).all()
    assert (found[0, 2] < 2e-4).all()  # the absent class, and it alone
    certain = torch.tensor([[-300.0, 300, -300]])[:, :, None, None].double()
    assert gate(certain, torch.full((1, 2), 300.0)).isfinite().all()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_any_network_can_decide(name, classes):
    torch.manual_seed(0)
    deep = name not in BASELINES
    depths = 4 if deep else 1
    model = build_model(
        name, num_classes=classes, widths=SMALL, deep_supervision=deep, presence=True
    )
    image = torch.randn(2, 3, 40, 50)
    logits, present = model.train()(image)
    assert [tuple(each.shape) for each in logits] == depths * [(2, classes, 40, 50)]
    decided = (2, evidence_maps(classes))
    assert [tuple(each.shape) for each in present] == depths * [decided]
    sum(each.square().sum() for each in (*logits, *present)).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        found = model.eval()(image)
        maps = model.network(image)
    assert found.shape == (2, classes, 40, 50)
    torch.testing.assert_close(found, gate(maps[:, :classes], pool(maps[:, classes:])))


def test_without_evidence_nothing_is_drawn():
    class Drawing(torch.nn.Module):
        def forward(self, x):
            return torch.cat((torch.full_like(x, 8.0), x), 1)

    model = PresenceGate(Drawing(), 1).eval()
    evidence = torch.full((1, 1, 20, 20), -5.0)
    assert (model(evidence) < 0).all()
    evidence[..., 7, 9] = 7.0
    assert (model(evidence) > 0).all()


def test_it_is_exported_with_a_free_batch():
    model = build_model("km_unet", widths=SMALL, presence=True).eval()
    batch = torch.export.Dim("batch", min=2, max=8)
    image = torch.randn(2, 3, 64, 64)
    program = torch.export.export(model, (image,), dynamic_shapes=({0: batch},))
    other = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), model(other))
