"""Compile the kernel with the machine's own compiler; keep it in the user's cache."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

UNITS = ("attention.cpp", "scan.cpp")
PARTS = (
    *("attention", "attention_backward", "attention_forward", "gate", "kan", "norm"),
    *("segment", "some", "threads", "vector"),
)
# What is compiled, and what it includes.
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in (*UNITS, *(f"{part}.h" for part in PARTS))
)
COMPILERS = ("c++", "g++", "clang++")
# Without contraction and unsafe math a build gives the same bits with any compiler.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-w", "-fPIC", "-shared", "-pthread")
TIME_LIMIT = 300  # seconds; it takes about five, more where others use the cores


@dataclass(frozen=True)
class Variant:
    """One instruction set: its name and the compiler's flags for it."""

    name: str
    flags: tuple[str, ...] = ()


AVX512 = Variant(
    "avx512",
    (
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
        "-mprefer-vector-width=512",
    ),
)
AVX2 = Variant("avx2", ("-mavx2", "-mfma"))
PORTABLE = Variant("portable")


def variants() -> tuple[Variant, ...]:
    """What this CPU can run, by torch's own finding, the fastest first."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability.startswith("AVX512"):
        return AVX512, AVX2, PORTABLE
    return (AVX2, PORTABLE) if capability == "AVX2" else (PORTABLE,)


def cache_folder() -> Path:
    """Where built kernels lie: kmunet/ under $XDG_CACHE_HOME, or under ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "kmunet"


class BuildError(Exception):
    """Why there is no kernel on this machine; says what would help."""


def build(variant: Variant) -> Path:
    """The path of the shared library, compiled if it is not in the cache.

    The name holds a hash of sources, compiler and flags, and files appear complete:
    several processes may build at once. Raises BuildError.
    """
    compiler = _compiler()
    units = map(str, SOURCES[: len(UNITS)])
    command = [compiler, *FLAGS, *variant.flags, *units]
    try:
        folder = cache_folder()
        target = folder / f"scan-{variant.name}-{_digest(command)}.so"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(command, target)
    except (OSError, RuntimeError) as error:
        raise BuildError(f"the cache for the kernel cannot be used: {error}") from None
    return target


def _compiler() -> str:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        names = ", ".join(COMPILERS)
        raise BuildError(f"no C++ compiler on PATH ({names}); install one, such as g++")
    return found


def _digest(command: list[str]) -> str:
    version = _version(command[0])
    parts = [
        version,
        *command[1 : -len(UNITS)],
        *(path.read_text() for path in SOURCES),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@cache
def _version(compiler: str) -> str:
    return _run([compiler, "--version"])


def _compile(command: list[str], target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(handle)
    try:
        _run([*command, "-o", name])
        Path(name).chmod(0o755)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run: {error}") from None
    if done.returncode:
        first = next(iter(done.stderr.strip().splitlines()), "no message")
        raise BuildError(f"{command[0]} failed ({done.returncode}): {first}")
    return done.stdout
