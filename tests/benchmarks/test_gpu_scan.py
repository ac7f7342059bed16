"""The GPU's benchmark from end to end, in Triton's interpreter."""

import json
import subprocess
import sys

import pytest

from benchmarks import gpu_scan

TINIER = """
import sys
from benchmarks import gpu_scan

gpu_scan.TINY = [gpu_scan.Shape("one", 2, 2, 1, 1, 1)]
sys.exit(gpu_scan.main(["--tiny", "--out", sys.argv[1]]))
"""


def test_tiny(tmp_path):
    """In a process of its own: here kernels may be imported for a GPU."""
    pytest.importorskip("triton", reason="triton is not installed")
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-c", TINIER, str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all right" in done.stdout
    report = json.loads(out.read_text())
    (scan,) = report["scans"]
    for dtype in ("float32", "bfloat16"):
        assert scan[dtype]["check"]["good"]
        assert set(scan[dtype]) >= {"kernels", "triton", "chunked"}
    assert report["total"]["float32 triton forward"] > 0


def test_a_stopped_run_has_what_it_measured(tmp_path, monkeypatch):
    def measured(bench, shape, names, sweep):
        if shape.channels > 1:
            raise KeyboardInterrupt
        right = {"check": {"good": True, "errors": {"y": 0.0}}}
        return {"states": shape.states(), "float32": right, "bfloat16": right}

    monkeypatch.setattr(gpu_scan, "measured", measured)
    monkeypatch.setattr(gpu_scan.Bench, "limits", lambda self: {})
    shapes = [gpu_scan.Shape("one", 1, 2, 1), gpu_scan.Shape("two", 2, 2, 1)]
    options = gpu_scan.parse(["--out", str(tmp_path / "runs/out.json")])
    with pytest.raises(KeyboardInterrupt):
        gpu_scan.run(gpu_scan.Bench("cpu", 1, shapes), options)
    (scan,) = json.loads(options.out.read_text())["scans"]
    assert scan["where"] == "one"


@pytest.mark.parametrize("wrong", ["float32", "bfloat16"])
def test_one_wrong_dtype_is_enough_to_fail(wrong):
    scan = {name: {"check": {"good": True}} for name in ("float32", "bfloat16")}
    assert gpu_scan.all_right({"scans": [scan]})
    assert not gpu_scan.all_right(
        {"scans": [scan | {wrong: {"check": {"good": False}}}]}
    )


def test_a_machine_without_a_gpu_is_told_what_runs(capsys):
    if gpu_scan.torch.cuda.is_available():
        pytest.skip("there is one")
    assert gpu_scan.main([]) == 1
    assert "--tiny" in capsys.readouterr().out
