"""y of every chunk from the state it begins with; states kept for the backward pass.

A state is a tensor of channels of its own, and y a sum over states in their order. In
two dimensions a program takes a direction and its reverse over the same pixels, one
after the other, and adds the second to what it wrote before: no atomics, no copies.
So it does with states beyond the first `group`.
"""

from typing import Any

import triton
import triton.language as tl

from kmunet.ops.triton.steps import LOG2E, pixel, position, time_step, weights
from kmunet.ops.triton.tuning import tuned


@tuned
@triton.jit(do_not_specialize=["busy"])
def outputs(
    x: "Any",
    delta: "Any",
    proj: "Any",
    A: "Any",
    weight: "Any",
    bias: "Any",
    skip: "Any",
    starts: "Any",
    y: "Any",
    kept: "Any",
    batch: "Any",
    height: "Any",
    width: "Any",
    channels: "Any",
    states: tl.constexpr,
    chunk: "Any",
    chunks: "Any",
    busy: "Any",
    directions: tl.constexpr,
    rank: tl.constexpr,
    has_delta: tl.constexpr,
    has_bias: tl.constexpr,
    has_skip: tl.constexpr,
    plus: tl.constexpr,
    shared: tl.constexpr,
    keep: tl.constexpr,
    tile: tl.constexpr,
    group: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """y (2, B, L, D) where shared (rows, columns), else (B, L, K D).

    kept (B, K, chunks, tiles, N, D): states before every `tile` steps of a chunk.
    """
    blocks = (channels + block - 1) // block
    lines: tl.constexpr = 2 if shared else directions
    passes: tl.constexpr = 2 if shared else 1
    program = tl.program_id(0)
    part, rest = program % blocks, program // blocks
    j, line = rest % chunks, (rest // chunks).to(tl.int64)
    axis, b = line % lines, line // lines
    d = part * block + tl.arange(0, block)
    ok = d < channels
    length, stride = height * width, directions * channels
    pitch, shift, columns = stride, axis * channels, False
    if shared:
        pitch, shift, columns = channels, axis * batch * length * channels, axis == 1
    low = j * chunk
    high = tl.minimum(low + chunk, length)
    size, tiles = rank + 2 * states, (chunk + tile - 1) // tile
    for second in range(passes):  # not unrolled: half the code
        k = axis + 2 * second
        channel = k * channels + d
        found = weights(weight, channel, ok, rank)
        start = tl.load(bias + channel, mask=ok, other=0.0) if has_bias else 0.0
        D = tl.load(skip + channel, mask=ok, other=0.0) if has_skip else 0.0
        place = (b * directions + k) * chunks + j
        for first in range(0, states, group):
            decay, state = (), ()
            for n in tl.static_range(group):
                used = ok & (first + n < states)
                A_n = tl.load(A + channel * states + first + n, mask=used, other=0.0)
                here = (place * states + first + n) * channels + d
                decay = decay + (A_n * LOG2E,)
                state = state + (tl.load(starts + here, mask=used, other=0.0),)
            for t in range((high - low + tile - 1) // tile):
                if keep:
                    for n in tl.static_range(group):
                        used = ok & (first + n < states)
                        rows = ((place * tiles + t) * states + first + n) * channels
                        tl.store(kept + rows + d, state[n], mask=used)
                for i in range(t * tile, tl.minimum(t * tile + tile, high - low)):
                    at = position(i, low, high, second == 1)
                    p = b * length + pixel(at, height, width, columns)
                    row = proj + (p * directions + k) * size
                    read = p * pitch + (0 if shared else shift) + d
                    u = tl.load(x + read, mask=ok, other=0.0).to(tl.float32)
                    dt = time_step(
                        delta + p * stride + channel,
                        row,
                        found,
                        start,
                        ok,
                        rank,
                        has_delta,
                        plus,
                    )
                    value = tl.where(first == 0, D * u, 0.0)
                    new = ()
                    for n in tl.static_range(group):
                        of_B, exists = row + rank + first + n, first + n < states
                        B = tl.load(of_B, mask=exists, other=0.0).to(tl.float32)
                        C = tl.load(of_B + states, mask=exists, other=0.0)
                        h = tl.exp2(dt * decay[n]) * state[n] + (dt * u) * B
                        value += h * C.to(tl.float32)
                        new = new + (h,)
                    state = new
                    write = y + p * pitch + shift + d
                    if shared or states > group:
                        again = (second == 1) | (first > 0)
                        before = d < tl.where(again, channels, 0)
                        value += tl.load(write, mask=before, other=0.0)
                    tl.store(write, value, mask=ok)
            tl.debug_barrier()  # what one lane wrote another may read and add to
