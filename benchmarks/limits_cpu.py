"""Multiply-adds and exps in registers and first-level cache, one loop a thread.

Matrix products do not show the limit: on some CPUs the library stays at 40 % of it.
"""

import ctypes
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from kmunet.ops.cpu import native
from kmunet.ops.cpu.compiler import COMPILERS, Variant, variants

_EXPS, _EXP_REPEAT = 4096, 20_000
_CHAINS, _FMA_REPEAT = 12, 10_000_000  # more than latency times units, in 16 registers
_WIDTHS = {"avx512": 64, "avx2": 32, "portable": 16}  # bytes
_SOURCE = """
typedef float V __attribute__((vector_size(WIDTH)));
extern "C" void multiply_add(float *x, long repeat) {
  V sums[CHAINS], a = {}, b = {};
  for (int i = 0; i < CHAINS; i++) sums[i] = a + x[i];
  a += x[0];
  b += x[1];
  for (long r = 0; r < repeat; r++)
    for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * a + b;
  for (int i = 0; i < CHAINS; i++) x[i] = sums[i][0];
}
"""

Limit = tuple[Callable[[], object], float]  # a call, and how much it does


def exps(threads: int) -> Limit:
    """The scan's own exp where it is built, else torch's."""
    kernel = native.kernel()

    def loop() -> None:
        x = torch.linspace(-20, 0, _EXPS)
        if kernel is not None:
            kernel.exp(x, _EXP_REPEAT)
            return
        y = torch.empty_like(x)
        for _ in range(_EXP_REPEAT):
            torch.exp(x, out=y)

    return _on_all(threads, loop), float(_EXPS * _EXP_REPEAT * threads)


def multiply_adds(threads: int) -> Limit:
    """A compiled loop; without a compiler, a 3x3 convolution. Two flop each."""
    try:
        call, lanes = _compiled(variants()[0])
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return _convolution()

    def loop() -> None:
        x = torch.full((_CHAINS,), 0.5)
        call(ctypes.c_void_p(x.data_ptr()), ctypes.c_long(_FMA_REPEAT))

    amount = 2.0 * lanes * _CHAINS * _FMA_REPEAT * threads
    return _on_all(threads, loop), amount


def _compiled(variant: Variant) -> tuple[Callable[..., None], int]:
    """The loop for an instruction set, and its lanes."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)))
    width = _WIDTHS[variant.name]
    defined = (f"-DWIDTH={width}", f"-DCHAINS={_CHAINS}")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "fma.cpp"), Path(folder, "fma.so")
        source.write_text(_SOURCE)
        command = [compiler, "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-w"]
        command += [*variant.flags, *defined, str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        call: Callable[..., None] = ctypes.CDLL(str(library)).multiply_add
    return call, width // 4


def _convolution() -> Limit:
    channels, side, times = 128, 64, 20
    x, w = torch.rand(1, channels, side, side), torch.rand(channels, channels, 3, 3)

    def call() -> None:
        with torch.inference_mode():
            for _ in range(times):
                F.conv2d(x, w, padding=1)

    return call, 2.0 * 9 * channels**2 * side**2 * times


def _on_all(threads: int, loop: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        running = [threading.Thread(target=loop) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return call
