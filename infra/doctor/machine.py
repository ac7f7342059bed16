"""This machine: Python, packages, torch, GPU, CPU kernel, disks and ports."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.doctor.check import Finding, error, ok, warning
from infra.local import processes
from infra.local.services import Addresses, services
from kmunet.errors import ServiceError
from pipelines.packages import missing, others

SOURCE = Path(__file__).parents[2]
ENOUGH, LITTLE = 5 * 2**30, 2**30  # bytes free
IMPORTS = 10.0  # seconds for torch, where others use the cores
INSTALL = "`make install` brings what constraints.txt names"


def python() -> Iterator[Finding]:
    """Its version, and that it is the checkout's own."""
    have = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        yield ok("python", f"{have} at {sys.executable}")
    else:
        remedy = "rm -r .venv, then `make install PYTHON=python3.12`"
        yield error("python", f"{have}; 3.11 or 3.12 is needed", remedy)


def packages(source: Path = SOURCE) -> Iterator[Finding]:
    """What pyproject.toml needs is there, in the versions of constraints.txt."""
    if absent := missing(source):
        yield error("packages", f"missing: {', '.join(absent)}", INSTALL)
        return
    if unlike := others(source):
        more = f" and {len(unlike) - 4} more" if len(unlike) > 4 else ""
        yield warning("packages", ", ".join(unlike[:4]) + more, INSTALL)
    else:
        yield ok("packages", "all needed are there, in the versions tested together")


def torch() -> Iterator[Finding]:
    """Device, driver, GPU kernels, and the CPU kernel's variant."""
    try:
        seen = probe("infra.doctor.torch_probe", limit=IMPORTS)
    except ServiceError as problem:
        yield error("torch", str(problem), INSTALL)
        return
    yield from _gpu(seen)
    kernel, compiler = seen["kernel"], seen["compiler"]
    if kernel["problem"]:
        text = f"the scan runs in plain torch, slower: {kernel['problem']}"
        yield warning("cpu kernel", text, "install a C++ compiler, such as g++")
    else:
        state = "built" if kernel["built"] else "is compiled at its first use"
        yield ok("cpu kernel", f"{kernel['variant']}, {state}; {compiler}")


def _gpu(seen: dict[str, Any]) -> Iterator[Finding]:
    driver = _driver()
    if not seen["gpus"]:
        text = f"torch {seen['torch']} on the CPU"
        if driver:
            remedy = "install a CUDA build of torch that this driver can run"
            yield warning("torch", f"{text}, but there is a GPU ({driver})", remedy)
        else:
            yield ok("torch", f"{text}; no GPU here")
        return
    text = f"torch {seen['torch']}, CUDA {seen['cuda']}, {', '.join(seen['gpus'])}"
    yield ok("torch", f"{text}; driver {driver or 'unknown'}")
    broken = {name: why for name, why in seen["problems"].items() if why}
    if len(broken) == len(seen["problems"]):
        text = "; ".join(f"{name}: {why}" for name, why in broken.items())
        remedy = "install triton, or `pip install 'kmunet[gpu]'`; until then it is slow"
        yield warning("gpu kernels", text, remedy)
    else:
        fine = [name for name in seen["problems"] if name not in broken]
        yield ok("gpu kernels", f"{' and '.join(fine)} can be imported")


def disks(root: Path, state: Path) -> Iterator[Finding]:
    """Room in the checkout, in .kmunet, and in shared memory for an embedded Ray."""
    for name, place in {"disk": root, "disk .kmunet": state}.items():
        place = place if place.exists() else place.parent
        free = shutil.disk_usage(place).free
        text = f"{free / 2**30:.1f} GiB free in {place}"
        remedy = "free some: `dvc gc --workspace`, `make clean`, or another disk"
        if free < LITTLE:
            yield error(name, text, remedy)
        elif free < ENOUGH:
            yield warning(name, text, remedy)
        else:
            yield ok(name, text)


def ports(root: Path) -> Iterator[Finding]:
    """Those of `make up` are free, or its own services have them."""
    folder, used = root / ".kmunet" / "local", []
    for service in services(root, Addresses(4200, 5000)):
        if record := processes.find(service.name, folder):
            used.append(
                f"{service.name} runs" + f" on {record.port}" * bool(record.port)
            )
            continue
        try:
            processes.check_port(service)
        except ServiceError as problem:
            text, _, remedy = str(problem).partition("; ")
            option = service.option.removeprefix("--").replace("-", "_").upper()
            remedy = f"end what uses it, or `make up {option}=PORT`"
            yield warning("ports", text, remedy)
            return
    yield ok("ports", ", ".join(used) or "4200 and 5000 are free for `make up`")


def probe(
    module: str, *arguments: str, limit: float, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON that `python -m module` prints. ServiceError: why it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=SOURCE,
            capture_output=True, text=True, check=False, timeout=limit - 0.5,
            env=os.environ | dict(env or {}),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ServiceError(f"no answer within {limit - 0.5:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServiceError(lines[-1][:300])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _driver() -> str:
    """What nvidia-smi says; empty without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""
