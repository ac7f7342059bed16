"""The benchmark times what it says: the seven scans, and others' scans that agree."""

import pytest
import torch

from benchmarks.case import Case
from benchmarks.scan import SCANS, scan_peers, scan_work, states
from benchmarks.scan_peers import mambapy_scan, reference_scan
from kmunet.models import build_model
from kmunet.nn import SS2D
from kmunet.ops import selective_scan, use_backend


def test_the_scans_are_those_of_the_model():
    places = []

    def note(module, arguments):
        _, channels, height, _ = arguments[0].shape
        places.append((2 * channels, 64 // height, module.dt_projs_weight.shape[2]))

    model = build_model("km_unet").eval()
    for module in model.modules():
        if isinstance(module, SS2D):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    expected = [(s.channels, s.divisor, s.rank) for s in SCANS]
    assert sorted(places) == sorted(expected)
    assert states(8, 256) == 1_115_684_864


@pytest.mark.parametrize("scan", [mambapy_scan, reference_scan])
def test_others_compute_the_same_scan(scan):
    if scan is mambapy_scan:
        pytest.importorskip("mambapy")
    torch.manual_seed(0)
    batch, channels, groups, steps, count = 2, 6, 2, 11, 4
    u, delta = torch.randn(2, batch, channels, steps).double().unbind()
    A = -torch.rand(channels, count).double()
    B, C = torch.randn(2, batch, groups, count, steps).double().unbind()
    D, bias = torch.randn(2, channels).double().unbind()
    leaves = [t.clone().requires_grad_() for t in (u, delta, A, B, C, D, bias)]
    with use_backend("naive"):
        expected = selective_scan(*leaves[:6], None, leaves[6], True)
    found = scan(*leaves, delta_softplus=True)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(expected, leaves, weight),
        torch.autograd.grad(found, leaves, weight),
        strict=True,
    ):
        torch.testing.assert_close(theirs, ours)


@pytest.mark.parametrize("peer", scan_peers("cpu"))
def test_each_peer_runs_both_ways(peer):
    with use_backend("auto"):  # put back what the peer chooses
        work = scan_work(Case("scan", peer, 32, 1))
        assert [name for name, _ in work.phases] == ["forward", "backward"] * 7
        for _, call in work.phases:
            call()
    assert work.exps == 2 * states(1, 32)
    assert work.bytes > 0
