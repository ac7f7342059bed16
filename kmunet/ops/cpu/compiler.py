"""Compile the kernel with the machine's own compiler; keep it in the user's cache."""

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

UNITS = ("attention.cpp", "scan.cpp")
HERE = Path(__file__).parent
# What is compiled, and what it includes.
SOURCES = (*(HERE / unit for unit in UNITS), *sorted(HERE.glob("*.h")))
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
VARIANTS = (AVX512, AVX2, PORTABLE)


def variants() -> tuple[Variant, ...]:
    """What this CPU can run, by torch's own finding, the fastest first."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability.startswith("AVX512"):
        return VARIANTS
    return (AVX2, PORTABLE) if capability == "AVX2" else (PORTABLE,)


def cache_folder() -> Path:
    """$KMUNET_KERNELS, or kmunet/ under $XDG_CACHE_HOME, or under ~/.cache."""
    named = os.environ.get("KMUNET_KERNELS")
    if named:
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "kmunet"


def temporary_folder() -> Path:
    """For a cache that cannot be written: a folder among the temporary files.

    Others write there too, and a library of theirs would run as this user. Raises
    OSError unless the folder, made if need be, is this user's alone.
    """
    user = os.geteuid()
    folder = Path(tempfile.gettempdir()) / f"kmunet-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()  # of a link itself: its target may change after the check
    closed = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not closed or status.st_uid != user:
        raise PermissionError(f"{folder} is not this user's alone (mode 0700)")
    return folder


# Where built kernels lie; the first that can be written receives them.
FOLDERS = (cache_folder, temporary_folder)


class BuildError(Exception):
    """Why there is no kernel on this machine; says what would help."""


def build(variant: Variant) -> Path:
    """The path of the shared library, compiled unless it is there.

    The name holds hashes of the sources with the flags, and of the compiler. Where no
    compiler works, another one's library of the same sources and flags will do. Files
    appear complete: several processes may build at once. Raises BuildError.
    """
    stem = f"scan-{variant.name}-{_digest(variant)}"
    try:
        compiler = _compiler()
        units = map(str, SOURCES[: len(UNITS)])
        command = [compiler, *FLAGS, *variant.flags, *units]
        return _build(command, f"{stem}-{_hash(_version(compiler))}.so")
    except BuildError:
        built = _newest(stem)
        if built is None:
            raise
        return built


def _build(command: list[str], name: str) -> Path:
    problems = []
    for place in FOLDERS:
        try:
            folder = place()
            target = folder / name
            if not target.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _compile(command, target)
            return target
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            problems.append(str(error))
    raise BuildError(f"no folder can keep the kernel: {'; '.join(problems)}")


def _newest(stem: str) -> Path | None:
    for place in FOLDERS:
        with suppress(OSError, RuntimeError):
            found = place().glob(f"{stem}-*.so")
            newest = max(found, key=lambda file: file.stat().st_mtime, default=None)
            if newest is not None:
                return newest
    return None


def _compiler() -> str:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        names = ", ".join(COMPILERS)
        raise BuildError(f"no C++ compiler on PATH ({names}); install one, such as g++")
    return found


def _digest(variant: Variant) -> str:
    # The machine: a home may be shared by several kinds of them.
    texts = (path.read_text() for path in SOURCES)
    return _hash(platform.machine(), *FLAGS, *variant.flags, *texts)


def _hash(*parts: str) -> str:
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
