"""Chunks of positions, each from a state of zero, and the states carried over them.

h_i = exp(dt_i A) h_(i-1) + dt_i u_i B_i gives over a chunk h' = exp(A sum dt) h + end.
The gradient q_i = exp(dt_i A) (C_i dy_i + q_(i+1)) has the same form, backwards.
"""

from typing import Any

import triton
import triton.language as tl

from kmunet.ops.triton.steps import LOG2E, pixel, position, time_step, weights
from kmunet.ops.triton.tuning import tuned

CARRIED = tl.constexpr(8)  # chunks whose loads are under way at once


@tuned
@triton.jit(do_not_specialize=["busy"])
def chunk_ends(
    x: "Any",
    delta: "Any",
    proj: "Any",
    A: "Any",
    weight: "Any",
    bias: "Any",
    ends: "Any",
    spans: "Any",
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
    plus: tl.constexpr,
    shared: tl.constexpr,
    adjoint: tl.constexpr,
    group: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """ends (B, K, chunks, N, D) and spans = sum dt (B, K, chunks, D).

    `adjoint`: of q, backwards, with the gradient of y in x. `group`: states at a time.
    """
    blocks = (channels + block - 1) // block
    program = tl.program_id(0)
    part, rest = program % blocks, program // blocks
    j, line = rest % chunks, (rest // chunks).to(tl.int64)
    k, b = line % directions, line // directions
    d = part * block + tl.arange(0, block)
    ok = d < channels
    channel = k * channels + d
    found = weights(weight, channel, ok, rank)
    start = tl.load(bias + channel, mask=ok, other=0.0) if has_bias else 0.0
    length, stride = height * width, directions * channels
    columns, backwards = False, False
    pitch, shift = stride, k * channels
    if shared:
        columns, backwards = k % 2 == 1, k >= 2
        pitch, shift = channels, k * 0
    low = j * chunk
    high = tl.minimum(low + chunk, length)
    size = rank + 2 * states
    place = line * chunks + j
    offset: tl.constexpr = rank + states if adjoint else rank  # of C, of B
    for first in range(0, states, group):
        decay, state = (), ()
        for n in tl.static_range(group):
            used = ok & (first + n < states)
            A_n = tl.load(A + channel * states + first + n, mask=used, other=0.0)
            decay = decay + (A_n * LOG2E,)
            state = state + (tl.full([block], 0.0, tl.float32),)
        span = tl.full([block], 0.0, tl.float32)
        for i in range(high - low):
            at = position(i, low, high, backwards != adjoint)
            p = b * length + pixel(at, height, width, columns)
            row = proj + (p * directions + k) * size
            value = tl.load(x + p * pitch + shift + d, mask=ok, other=0.0)
            value = value.to(tl.float32)
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
            new = ()
            for n in tl.static_range(group):
                given = tl.load(
                    row + offset + first + n, mask=first + n < states, other=0.0
                ).to(tl.float32)
                a = tl.exp2(dt * decay[n])
                if adjoint:
                    new = new + (a * (given * value + state[n]),)
                else:
                    new = new + (a * state[n] + (dt * value) * given,)
            state = new
            span += dt
        for n in tl.static_range(group):
            used = ok & (first + n < states)
            here = (place * states + first + n) * channels + d
            tl.store(ends + here, state[n], mask=used)
        tl.store(spans + place * channels + d, span, mask=ok)


@triton.jit
def carry(
    ends: "Any",
    spans: "Any",
    A: "Any",
    starts: "Any",
    channels: "Any",
    states: "Any",
    chunks: "Any",
    directions: tl.constexpr,
    shared: tl.constexpr,
    adjoint: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """starts (B, K, chunks, N, D): what each chunk begins with."""
    blocks = (channels + block - 1) // block
    program = tl.program_id(0)
    part, rest = program % blocks, program // blocks
    n, line = rest % states, (rest // states).to(tl.int64)
    k = line % directions
    d = part * block + tl.arange(0, block)
    ok = d < channels
    A_n = tl.load(A + (k * channels + d) * states + n, mask=ok, other=0.0) * LOG2E
    backwards = k < 0
    if shared:
        backwards = k >= 2
    backwards = backwards != adjoint
    state = tl.full([block], 0.0, tl.float32)
    for first in range(0, chunks, CARRIED):
        places, news, decays = (), (), ()
        for i in tl.static_range(CARRIED):
            j = position(first + i, 0, chunks, backwards)
            inside = d < tl.where(first + i < chunks, channels, 0)
            place = line * chunks + j
            at = (place * states + n) * channels + d
            new = tl.load(ends + at, mask=inside, other=0.0)
            span = tl.load(spans + place * channels + d, mask=inside, other=0.0)
            places, news = places + (at,), news + (new,)
            decays = decays + (tl.exp2(A_n * span),)
        for i in tl.static_range(CARRIED):
            inside = d < tl.where(first + i < chunks, channels, 0)
            tl.store(starts + places[i], state, mask=inside)
            state = state * decays[i] + news[i]
