"""Batch norm over two processes equals batch norm over their images in one."""

import copy

import torch
from processes import run_ranks
from torch import nn

from kmunet.nn import norm as norm_module
from kmunet.nn.norm import norm_relu
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
    if not isinstance(model, nn.Module):
        return out.detach(), images.grad
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


def _short_case():
    torch.manual_seed(5)
    images = (torch.randn(6, 5, 9, 7) * 0.3 + 3).bfloat16()
    return nn.BatchNorm2d(5), images, torch.randn(6, 5, 9, 7).bfloat16()


def _short_rank(rank, count, folder):
    """bfloat16 in and out with float32 weights, as under autocast."""
    norm, images, weights = _short_case()
    model = synchronise_batch_norm(nn.Sequential(norm))
    share = slice(rank * 6 // count, (rank + 1) * 6 // count)
    torch.save(_step(model, images[share], weights[share]), f"{folder}/{rank}.pt")


def test_bfloat16_is_rounded_once(tmp_path):
    norm, images, weights = _short_case()
    expected = _step(norm, images, weights)
    run_ranks(2, _short_rank, str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    near = {"rtol": 2**-7, "atol": 1e-4}  # a place of bfloat16
    for place in (0, 1):
        both = torch.cat([item[place] for item in found])
        assert both.dtype == torch.bfloat16
        torch.testing.assert_close(both, expected[place], **near)
    for place, gradient in enumerate(expected[2]):
        total = sum(item[2][place] for item in found)
        torch.testing.assert_close(total, gradient, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found[0][3], expected[3], rtol=1e-5, atol=1e-6)


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


def _fused_rank(rank, count, folder):
    """The last rank has no kernel, as on a machine without a compiler."""
    if rank == count - 1:
        norm_module.kernel = lambda: None
    norm, images, weights = _fused_case()
    model = synchronise_batch_norm(nn.Sequential(norm))
    share = slice(rank * 6 // count, (rank + 1) * 6 // count)
    step = _step(lambda x: norm_relu(x, model[0]), images[share], weights[share])
    gradients = [parameter.grad for parameter in model.parameters()]
    torch.save((*step[:2], gradients, list(model.buffers())), f"{folder}/{rank}.pt")


def _fused_case():
    torch.manual_seed(4)
    norm = nn.BatchNorm2d(20)
    nn.init.normal_(norm.weight)
    last = {"memory_format": torch.channels_last}
    images = (torch.randn(6, 20, 9, 7) * 3 + 40).contiguous(**last)
    return norm, images, torch.randn(6, 20, 9, 7).contiguous(**last)


def test_with_relu_on_the_kernel_or_without_ranks_are_one(tmp_path):
    norm, images, weights = _fused_case()
    truth = nn.Sequential(copy.deepcopy(norm), nn.ReLU()).double()
    expected = _step(truth, images.double(), weights.double())
    run_ranks(4, _fused_rank, str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(4)]
    out = [torch.cat([item[place] for item in found]).double() for place in (0, 1)]
    torch.testing.assert_close(out[0], expected[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(out[1], expected[1], rtol=0, atol=2e-5)
    for place, gradient in enumerate(p.grad for p in truth.parameters()):
        total = sum(item[2][place] for item in found).double()
        torch.testing.assert_close(total, gradient, rtol=2e-5, atol=2e-5)
    for buffer, true in zip(found[0][3], truth.buffers(), strict=True):
        torch.testing.assert_close(buffer.double(), true.double(), rtol=1e-6, atol=0)
    for item in found[1:]:
        torch.testing.assert_close(item[3], found[0][3])
