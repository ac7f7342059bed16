"""Built where a compiler is, once; without one, plain torch and one line in the log."""

import logging
import os
import subprocess
import sys
import tempfile

import pytest
import torch

from kmunet.ops.cpu import compiler as building
from kmunet.ops.cpu import native, usable
from kmunet.ops.cpu.compiler import (
    PORTABLE,
    VARIANTS,
    BuildError,
    build,
    cache_folder,
    temporary_folder,
    variants,
)

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
    """The cache and the temporary files of this test alone, also in its processes."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)  # to be found anew
    monkeypatch.delenv("KMUNET_KERNELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kmunet"


@pytest.fixture
def no_cache(own_cache):
    """A cache that nobody can write, root neither."""
    own_cache.touch()
    return own_cache


def run(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def hurried(monkeypatch):
    """Builds that are not optimized."""
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-O0"))


@needs_compiler
def test_built_once(own_cache, hurried, monkeypatch):
    path = build(PORTABLE)
    assert path.parent == own_cache == cache_folder()
    assert [p.name for p in own_cache.iterdir()] == [path.name]  # nothing half done
    monkeypatch.setattr(building, "_compile", None)
    assert build(PORTABLE) == path


@needs_compiler
def test_other_flags_are_another_file(own_cache, hurried, monkeypatch):
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
    text = f"no CPU kernel ({variants()[0].name}), plain torch will do: no C++ compiler"
    assert err.startswith(text)


@needs_compiler
def test_what_an_image_has_serves_without_a_compiler(own_cache, tmp_path):
    folder = tmp_path / "kernels"
    place = {"KMUNET_KERNELS": str(folder)}
    process = run("-m", "kmunet.ops.cpu.build", "--all", **place)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    built = [file.name for file in folder.iterdir()]
    assert sorted(out.splitlines()) == sorted(str(folder / name) for name in built)
    for variant in VARIANTS:  # another architecture's are refused, and told
        refused = f"no CPU kernel ({variant.name})" in err
        assert refused != any(f"-{variant.name}-" in name for name in built)
    process = run("-c", SCAN, PATH=str(tmp_path), **place)
    out, err = process.communicate(timeout=120)
    assert out.strip() == "cpu", err
    assert not own_cache.exists()


def stem_of(variant):
    return f"scan-{variant.name}-{building._digest(variant)}"


@pytest.mark.parametrize("script", [None, '#!/bin/sh\n[ "$1" = --version ]\n'])
def test_without_a_compiler_that_works_the_newest_is_used(
    own_cache, tmp_path, monkeypatch, script
):
    if script:
        (tmp_path / "c++").write_text(script)
        (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    own_cache.mkdir()
    stem = stem_of(PORTABLE)
    names = [f"{stem}-b.so", f"{stem}-c.so", f"{stem}-a.so", "scan-portable-other-a.so"]
    for age, name in zip((3, 1, 2, 0), names, strict=True):
        (own_cache / name).touch()
        os.utime(own_cache / name, (10 - age, 10 - age))
    assert build(PORTABLE) == own_cache / f"{stem}-c.so"
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-DNOTHING"))
    with pytest.raises(BuildError):
        build(PORTABLE)


@needs_compiler
def test_a_failing_compiler_is_quoted(own_cache, monkeypatch):
    monkeypatch.setattr(building, "FLAGS", ("--no-such-flag",))
    with pytest.raises(BuildError, match=r"failed \(1\): .*no-such-flag"):
        build(PORTABLE)
    assert list(own_cache.iterdir()) == []


@needs_compiler
def test_a_cache_that_cannot_be_written(no_cache, tmp_path, monkeypatch):
    path = build(PORTABLE)
    assert path.parent == temporary_folder()
    assert path.parent.parent == tmp_path / "temporary"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(building, "_compile", None)
    assert build(PORTABLE) == path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build(PORTABLE) == path


def open_to_others(folder):
    folder.chmod(0o770)


def others(folder):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, -1)


def link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@needs_compiler
@pytest.mark.parametrize("spoil", [open_to_others, others, link])
def test_a_temporary_folder_of_others_is_not_used(no_cache, monkeypatch, spoil):
    folder = temporary_folder()
    (folder / f"{stem_of(PORTABLE)}-planted.so").touch()
    spoil(folder)
    with pytest.raises(BuildError, match="not this user's alone"):
        build(PORTABLE)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(BuildError, match="no C\\+\\+ compiler on PATH"):
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
