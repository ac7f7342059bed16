"""What the Triton kernels share: where a step reads, its dt, and how sums are made.

Channels lie in the lanes of a warp, the states of a channel in registers of one lane, a
tensor of channels for each: a step of the states needs no exchange between lanes. Only
functions of triton.language's core are used: those written in Triton itself are not
interpreted once imported.
"""

from typing import Any

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def add(a: "Any", b: "Any") -> "Any":
    """For tl.reduce."""
    return a + b


@triton.jit
def pixel(position: "Any", height: "Any", width: "Any", columns: "Any") -> "Any":
    """Where a position of an order lies: row by row, or column by column."""
    down = position // height
    across = (position - down * height) * width + down
    return tl.where(columns, across, position).to(tl.int64)


@triton.jit
def position(i: "Any", low: "Any", high: "Any", backwards: "Any") -> "Any":
    """The i-th position that a direction visits in a chunk."""
    return tl.where(backwards, high - 1 - i, low + i)


@triton.jit
def softplus(z: "Any") -> "Any":
    """log(1 + exp(z)), exact for small exp(z) too; z itself above 20, NaN for NaN."""
    e = tl.exp2(z * LOG2E)
    series = e * (1 - e * (0.5 - e * (0.33333334 - e * (0.25 - e * 0.2))))
    return tl.where(z > 20.0, z, tl.where(e < 0.03, series, tl.log(1 + e)))


@triton.jit
def softplus_slope(dt: "Any") -> "Any":
    """1 - exp(-dt), the derivative of softplus by its value; exact for small dt."""
    series = dt * (1 - dt * (0.5 - dt * (0.16666667 - dt * (0.041666668 - dt / 120))))
    return tl.where(dt < 0.1, series, 1 - tl.exp2(-dt * LOG2E))


@triton.jit
def weights(weight: "Any", channel: "Any", ok: "Any", rank: tl.constexpr) -> "Any":
    """The dt projection's rows (rank of them) for some channels."""
    found = ()
    for r in tl.static_range(rank):
        found = found + (tl.load(weight + channel * rank + r, mask=ok, other=0.0),)
    return found


@triton.jit
def time_step(
    delta: "Any",
    row: "Any",
    found: "Any",
    bias: "Any",
    ok: "Any",
    rank: tl.constexpr,
    has_delta: tl.constexpr,
    plus: tl.constexpr,
) -> "Any":
    """dt of one pixel: given, or projected from its row; 0 where not `ok`."""
    z = bias
    if has_delta:
        z = z + tl.load(delta, mask=ok, other=0.0).to(tl.float32)
    for r in tl.static_range(rank):
        z = z + found[r] * tl.load(row + r)
    if plus:
        z = softplus(z)
    return tl.where(ok, z, 0.0)
