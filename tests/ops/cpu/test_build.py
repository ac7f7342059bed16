"""Built where a compiler is, once; without one, plain torch and one line in the log."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from kmunet.ops.cpu import compiler as building
from kmunet.ops.cpu import native, usable
from kmunet.ops.cpu.compiler import PORTABLE, BuildError, build, cache_folder, variants

needs_compiler = pytest.mark.skipif(
    not usable(), reason="no C++ compiler on this machine: install g++ or clang++"
)
SCAN = """
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from kmunet.ops import backend, selective_scan
one = torch.ones(1, 1, 2)
for _ in range(2):
    selective_scan(one, one, -torch.ones(1, 1), one, one)
print(backend())
"""


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kmunet"


def run(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_compiler
def test_built_once(own_cache, monkeypatch):
    path = build(PORTABLE)
    assert path.parent == own_cache == cache_folder()
    assert [p.name for p in own_cache.iterdir()] == [path.name]  # nothing half done
    monkeypatch.setattr(building, "_compile", None)
    assert build(PORTABLE) == path


@needs_compiler
def test_other_flags_are_another_file(own_cache, monkeypatch):
    first = build(PORTABLE)
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-DNOTHING"))
    assert build(PORTABLE) != first


@needs_compiler
def test_two_processes_at_once(own_cache):
    both = [run("-m", "kmunet.ops.cpu.build") for _ in range(2)]
    texts = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert texts[0] == texts[1]
    assert [str(p) for p in own_cache.iterdir()] == [texts[0][0].strip()]


def test_without_a_compiler_the_scan_runs_in_torch(own_cache, tmp_path):
    process = run("-c", SCAN, PATH=str(tmp_path))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.strip() == "chunked"
    assert err.splitlines() == [
        "no CPU kernel, the scan runs in plain torch: no C++ compiler on PATH "
        "(c++, g++, clang++); install one, such as g++",
        "selective scan: chunked on cpu",
    ]


def test_building_ahead_without_a_compiler_is_no_error(own_cache, tmp_path):
    process = run("-m", "kmunet.ops.cpu.build", PATH=str(tmp_path))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")
    assert err.startswith("no CPU kernel, plain torch will do: no C++ compiler on PATH")


@needs_compiler
def test_a_failing_compiler_is_quoted(own_cache, monkeypatch):
    monkeypatch.setattr(building, "FLAGS", ("--no-such-flag",))
    with pytest.raises(BuildError, match=r"failed \(1\): .*no-such-flag"):
        build(PORTABLE)
    assert list(own_cache.iterdir()) == []


@needs_compiler
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="cache for the kernel cannot be used"):
        build(PORTABLE)


def test_the_reason_is_logged_once(monkeypatch, caplog):
    def fail(variant):
        raise BuildError("for a test")

    monkeypatch.setattr(native, "load", fail)
    native.kernel.cache_clear()
    with caplog.at_level(logging.WARNING, logger="kmunet.ops"):
        assert not usable()
        assert not usable()
        with pytest.raises(RuntimeError, match="choose scan backend 'auto'"):
            native.required()
    native.kernel.cache_clear()
    assert caplog.messages == [
        "no CPU kernel, the scan runs in plain torch: for a test"
    ]


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        ("AVX512", ["avx512", "avx2", "portable"]),
        ("AVX2", ["avx2", "portable"]),
        ("DEFAULT", ["portable"]),
    ],
)
def test_variants_by_what_the_cpu_has(monkeypatch, capability, names):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert [variant.name for variant in variants()] == names


@needs_compiler
def test_tensors_that_the_kernel_cannot_read():
    problem = native.Problem(1, 1, 4, 1, 3, 2, 0, shared=False, softplus=False)
    with pytest.raises(ValueError, match="x must be a contiguous float32 CPU tensor"):
        native.required().forward(problem, x=torch.zeros(1, 3, 4).double())
