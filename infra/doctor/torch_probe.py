"""`python -m infra.doctor.torch_probe`: what torch and the CPU kernel find, as JSON.

A process of its own, since importing torch takes seconds and can fail in its own ways.
Nothing is compiled: that would write to the user's cache.
"""

import ctypes
import json
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from kmunet.ops.cpu import compiler


def look() -> dict[str, Any]:
    """Versions, GPUs, kernels."""
    cuda = torch.cuda.is_available()
    count = torch.cuda.device_count() if cuda else 0
    problems = {name: _import(name) for name in ("triton", "mamba_ssm") if cuda}
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "gpus": [torch.cuda.get_device_name(place) for place in range(count)],
        "problems": problems,  # of kernels for GPUs; empty where one imports
        "kernel": _kernel(),
        "compiler": _compiler(),
    }


def _kernel() -> dict[str, Any]:
    variant = compiler.variants()[0]
    problem, built = "", False
    try:
        built = _load(variant)
    except (compiler.BuildError, OSError) as error:
        problem = str(error)
    return {"variant": variant.name, "built": built, "problem": problem}


def _load(variant: compiler.Variant) -> bool:
    """Whether it is in the cache; loads it then. Raises BuildError, OSError."""
    if _compiler() and not compiler.cache_folder().exists():
        return False
    built = True

    def refuse(command: list[str], target: Path) -> None:
        nonlocal built
        built = False

    compiler._compile = refuse  # in this process alone: find it, don't make it
    place = compiler.build(variant)
    if built:
        ctypes.CDLL(str(place))
    return built


def _compiler() -> str:
    """Its first line of --version; empty where there is none."""
    found = next(filter(None, map(shutil.which, compiler.COMPILERS)), None)
    if found is None:
        return ""
    done = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.partition("\n")[0]


def _import(name: str) -> str:
    try:
        import_module(name)
    except Exception as error:  # CUDA modules raise anything
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


if __name__ == "__main__":
    print(json.dumps(look()))
