"""The GPU's benchmark from end to end, in Triton's interpreter."""

import json

import pytest

from benchmarks import gpu_scan


def test_tiny(tmp_path, monkeypatch, capsys):
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(gpu_scan, "TINY", [gpu_scan.Shape("one", 2, 2, 1, 1, 2)])
    assert gpu_scan.main(["--tiny", "--out", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    (scan,) = report["scans"]
    for dtype in ("float32", "bfloat16"):
        assert scan[dtype]["check"]["good"]
        assert set(scan[dtype]) >= {"kernels", "triton", "chunked"}
    assert report["total"]["float32 triton forward"] > 0
    assert "all right" in capsys.readouterr().out


def test_a_machine_without_a_gpu_is_told_what_runs(capsys):
    if gpu_scan.torch.cuda.is_available():
        pytest.skip("there is one")
    assert gpu_scan.main([]) == 1
    assert "--tiny" in capsys.readouterr().out
