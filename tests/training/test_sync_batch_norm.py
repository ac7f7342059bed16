"""Batch norm over two processes equals batch norm over their images in one."""

import copy

import torch
from processes import run_ranks
from torch import nn

from kmunet.training.sync_batch_norm import SyncBatchNorm2d, synchronise_batch_norm


def _case(dtype=torch.float64):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()).to(dtype)
    images = torch.randn(6, 3, 9, 7, dtype=dtype) * 3 + 40
    return model, images, torch.randn(6, 5, 7, 5, dtype=dtype)


def _step(model, images, weights):
    """Values, gradients of input and parameters, and the buffers after one step."""
    images = images.clone().requires_grad_()
    out = model(images)
    (out * weights).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return out.detach(), images.grad, gradients, list(model.buffers())


def _rank(rank, count, folder):
    model, images, weights = _case()
    synchronise_batch_norm(model)
    share = slice(rank * 6 // count, (rank + 1) * 6 // count)
    torch.save(_step(model, images[share], weights[share]), f"{folder}/{rank}.pt")


def test_many_ranks_are_one(tmp_path):
    """4 ranks have uneven shares of 6 images: sums are over pixels, not ranks."""
    count = 4
    model, images, weights = _case()
    expected = _step(model, images, weights)
    run_ranks(count, _rank, str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(count)]
    close = torch.testing.assert_close
    close(torch.cat([item[0] for item in found]), expected[0])
    close(torch.cat([item[1] for item in found]), expected[1])
    for place, gradient in enumerate(expected[2]):
        close(sum(item[2][place] for item in found), gradient)
    for item in found:
        close(item[3], expected[3])


def test_parameters_and_names_stay():
    model, _, _ = _case()
    before = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    assert type(synchronise_batch_norm(model)[1]) is SyncBatchNorm2d
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    torch.testing.assert_close(dict(model.state_dict()), dict(before))


def test_in_eval_it_is_torchs():
    model, images, _ = _case()
    twin = synchronise_batch_norm(copy.deepcopy(model)).eval()
    assert torch.equal(twin(images), model.eval()(images))
