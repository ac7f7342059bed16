"""The rate of exp2 on a GPU: a loop in registers, in Triton."""

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096  # 32 values a thread, independent of each other


@dataclass(frozen=True)
class _Exps:
    programs: int
    repeat: int

    @property
    def size(self) -> int:
        return self.programs * _BLOCK

    @property
    def count(self) -> float:
        return float(self.size) * self.repeat


EXPS = _Exps(programs=132 * 16, repeat=2000)


@triton.jit  # type: ignore[untyped-decorator]
def _exp_kernel(out: Any, repeat: Any, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(out + at)
    for _ in range(repeat):
        x = tl.exp2(-x)  # goes to 0.64 from anywhere
    tl.store(out + at, x)


def exp_loop(out: Tensor, repeat: int = EXPS.repeat) -> None:
    """Replace each x of `out` by 2^-x, `repeat` times; a multiple of 4096 values."""
    _exp_kernel[(out.numel() // _BLOCK,)](out, repeat, BLOCK=_BLOCK, num_warps=4)
