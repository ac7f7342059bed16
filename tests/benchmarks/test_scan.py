"""The benchmark times what it says: the seven scans, and numbers that add up."""

import torch

from benchmarks.measure import measure, rounded, total
from benchmarks.scan import SCANS
from kmunet.models import build_model
from kmunet.nn import SS2D


def test_the_scans_are_those_of_the_model():
    places = []

    def note(module, arguments):
        _, channels, height, _ = arguments[0].shape
        places.append((2 * channels, height, module.dt_projs_weight.shape[2]))

    model = build_model("km_unet").eval()
    for module in model.modules():
        if isinstance(module, SS2D):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    expected = [(s.channels, s.size // 4, s.rank) for s in SCANS]
    assert sorted(places) == sorted(expected)
    assert sum(scan.states() for scan in SCANS) == 1_115_684_864


def test_measure_and_sums():
    calls = []
    found = measure(lambda: calls.append(1), 3)
    assert len(calls) == 4
    assert found["wall"] <= found["wall_median"]
    assert total([found, found])["cpu"] == 2 * found["cpu"]
    assert rounded({"a": [0.123456, 7]}) == {"a": [0.1235, 7]}
