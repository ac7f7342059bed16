"""What the probe of torch finds, as lines; packages against the constraints."""

import re

import pytest

from infra.doctor import machine

SEEN = {
    "torch": "2.13.0", "cuda": "13.0", "gpus": ["H100"],
    "problems": {"triton": "", "mamba_ssm": "no module"},
    "kernel": {"variant": "avx2", "built": False, "problem": ""}, "compiler": "c++ 12",
}  # fmt: skip


def look(monkeypatch, driver="", **changes):
    monkeypatch.setattr(machine, "probe", lambda *_, **__: SEEN | changes)
    monkeypatch.setattr(machine, "_driver", lambda: driver)
    return {f.name: f for f in machine.torch()}


def test_a_gpu_with_one_of_the_kernels(monkeypatch):
    found = look(monkeypatch, "580.1, H100")
    assert {f.level for f in found.values()} == {"ok"}
    assert "CUDA 13.0, H100; driver 580.1" in found["torch"].text
    assert found["gpu kernels"].text == "triton can be imported"
    assert "avx2, is compiled at its first use" in found["cpu kernel"].text


def test_a_gpu_without_kernels_or_that_torch_does_not_see(monkeypatch):
    both = {"triton": "no", "mamba_ssm": "undefined symbol"}
    found = look(monkeypatch, "580.1, H100", problems=both)
    assert found["gpu kernels"].level == "warning"
    assert "mamba_ssm: undefined symbol" in found["gpu kernels"].text
    found = look(monkeypatch, "580.1, H100", gpus=[], problems={})
    assert found["torch"].level == "warning"
    assert "CUDA build of torch" in found["torch"].remedy


def test_no_compiler_is_slower_and_no_error(monkeypatch):
    kernel = {"variant": "avx2", "built": False, "problem": "no C++ compiler on PATH"}
    found = look(monkeypatch, kernel=kernel)
    assert found["cpu kernel"].level == "warning"
    assert "g++" in found["cpu kernel"].remedy


@pytest.mark.parametrize(
    ("needed", "pinned", "level", "says"),
    [
        ("pyyaml>=6", "pyyaml==1.0", "warning", r"pyyaml .* \(tested: 1.0\)"),
        ("no-such-package", "", "error", "missing: no-such-package"),
        ("pyyaml[x]; python_version>'3'", "# pyyaml==1.0", "ok", "all needed"),
    ],
)
def test_packages(tmp_path, needed, pinned, level, says):
    project = f'[project]\ndependencies = ["{needed}"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    (tmp_path / "constraints.txt").write_text(f"{pinned}\n")
    (found,) = machine.packages(tmp_path)
    assert found.level == level
    assert re.search(says, found.text)
