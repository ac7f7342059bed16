"""The check of the whole model on a GPU, run on a CPU; what differs, fails it."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_model
from benchmarks.gpu_model import Row

CPU = torch.device("cpu")
CODE = """
import sys
sys.modules.update(dict.fromkeys({lacking!r}))  # as if they were not installed
from benchmarks.gpu_model import main
sys.exit(main(["--device", "cpu"]))
"""
LACKING = ("ray", "prefect", "mlflow", "dvc", "pydantic", "albumentations", "monai",
           "pandas", "matplotlib", "rich", "ruamel", "yaml", "psutil")  # fmt: skip


def test_all_right_with_little_installed():
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(lacking=LACKING)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, last = done.stdout.splitlines()
    assert last == "all right"
    assert sum("float64" in row for row in rows) == 7
    assert sum("published" in row for row in rows) == 2
    assert sum("other bits" in row for row in rows) == 4


def test_a_wrong_weight_is_seen(monkeypatch):
    def wrong(model, device):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        return model

    monkeypatch.setattr(gpu_model, "placed", wrong)
    bad = {row.what for row in gpu_model.model_rows(CPU) if not row.good}
    assert {what for what in bad if "bfloat16" not in what} == {
        *(f"float32, {what}, to float64" for what in gpu_model.FLOAT32),
        "float32, logits, to the published code's",
        "float32, loss, to the published code's",
        "float32, norms of gradients, likewise",
    }


def test_other_bits_and_no_number_are_told(monkeypatch, capsys):
    monkeypatch.setattr(gpu_model, "model_rows", lambda _: [Row("x", float("nan"), 1)])
    digests = iter(["a", "b", "a", "a", "a", "a"])
    monkeypatch.setattr(gpu_model, "trained", lambda *_, **__: next(digests))

    def warned(device):
        for _ in range(2):
            text = f"put {gpu_model.NOT_DETERMINISTIC}, but you set"
            warnings.warn(text, stacklevel=1)
        return own(device)

    own = gpu_model.fit_rows
    monkeypatch.setattr(gpu_model, "fit_rows", warned)
    assert gpu_model.main(["--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert out.count("no deterministic version: put\n") == 1
    assert out.count("DIFFERS") == 2
    assert out.endswith("2 of 5 differ\n")


@pytest.fixture(autouse=True)
def as_it_was():
    """`main` makes this process deterministic."""
    before = torch.are_deterministic_algorithms_enabled()
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
