"""The costs of small things are found, and by their difference."""

import json

from benchmarks import scale


def test_images_and_stages_have_a_cost(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(scale, "RESULTS", tmp_path / "scale.json")
    monkeypatch.setattr(scale, "IMAGES", (4, 12))
    monkeypatch.setattr(scale, "STAGES", (1, 3))
    scale.main(["prepare"])
    scale.main(["dvc"])
    found = json.loads((tmp_path / "scale.json").read_text())
    assert found["parts"].keys() == {"prepare", "dvc"}  # the first one is kept
    # 3 bytes of image and 1 of mask a pixel, and a little.
    assert 1 <= found["parts"]["prepare"]["bytes_an_image"] / (4 * 256 * 256) < 1.2
    assert found["parts"]["dvc"]["cpu_seconds_start"] > 0
    assert "cores" in found["machine"]


def test_a_checkpoint_is_saved_and_read():
    import torch

    parts = scale._parts(torch.nn.Linear(2, 2))
    assert parts.optimizer.state  # moments, as a real one has
