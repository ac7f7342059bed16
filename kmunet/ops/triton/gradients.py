"""All gradients of a chunk, tile by tile from its end, in one pass over the states.

A tile's steps are unrolled, with one tensor of channels for each step: for one state n
after the other, h runs forwards from the kept state and q backwards, with the decays
of both computed once. With g_i = C_i dy_i + q_(i+1) and e_i = q_i h_(i-1), the gradient
of dt_i A: d(dt u) = sum_n g B_n, ddt = sum_n e A_n, dA_n = sum_i e dt,
dB_n = sum_d g dt u, dC_n = sum_d h dy. Sums over programs are partial sums, added later
in a fixed order.
"""

from typing import Any

import triton
import triton.language as tl

from kmunet.ops.triton.steps import (
    LOG2E,
    add,
    pixel,
    position,
    softplus_slope,
    time_step,
    weights,
)
from kmunet.ops.triton.tuning import tuned_registers


@tuned_registers
@triton.jit(do_not_specialize=["busy"])
def gradients(
    x: "Any",
    dy: "Any",
    delta: "Any",
    proj: "Any",
    A: "Any",
    weight: "Any",
    bias: "Any",
    skip: "Any",
    kept: "Any",
    later: "Any",
    between: "Any",
    dx: "Any",
    ddelta: "Any",
    dproj: "Any",
    dA: "Any",
    dbias: "Any",
    dskip: "Any",
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
    tile: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """dx as y, ddelta (B, L, K, D), dproj (blocks, B, L, K, 2N).

    later, between, dA (B, K, chunks, N, D): q of the chunk after, of the tile after;
    partial sums.
    dbias, dskip (B, K, chunks, D).
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
    whole = part.to(tl.int64) * batch * length
    used = (high - low + tile - 1) // tile
    for second in range(passes):  # not unrolled: half the code
        k = axis + 2 * second
        channel = k * channels + d
        found = weights(weight, channel, ok, rank)
        start = tl.load(bias + channel, mask=ok, other=0.0) if has_bias else 0.0
        D = tl.load(skip + channel, mask=ok, other=0.0) if has_skip else 0.0
        place = (b * directions + k) * chunks + j
        sum_bias = tl.full([block], 0.0, tl.float32)
        sum_skip = tl.full([block], 0.0, tl.float32)
        for back in range(used):
            t = used - 1 - back
            us, dts, dys, dws, ddts = (), (), (), (), ()
            pixels, insides = (), ()
            for i in tl.static_range(tile):
                step = t * tile + i
                inside = step < high - low
                at = position(step, low, high, second == 1)
                at = tl.where(inside, at, low)
                p = b * length + pixel(at, height, width, columns)
                read = p * pitch + (0 if shared else shift) + d
                mask = d < tl.where(inside, channels, 0)
                u = tl.load(x + read, mask=mask, other=0.0).to(tl.float32)
                g = tl.load(dy + read, mask=mask, other=0.0).to(tl.float32)
                row = proj + (p * directions + k) * size
                dt = time_step(
                    delta + p * stride + channel,
                    row,
                    found,
                    start,
                    mask,
                    rank,
                    has_delta,
                    plus,
                )
                us, dts, dys = us + (u,), dts + (dt,), dys + (g,)
                zero = tl.full([block], 0.0, tl.float32)
                dws, ddts = dws + (zero,), ddts + (zero,)
                pixels, insides = pixels + (p,), insides + (inside,)
            before = tl.where(t < used - 1, channels, 0)  # nothing in the last tile,
            first = channels - before  # where q comes from the chunk after
            for n in range(states):
                A_n = tl.load(A + channel * states + n, mask=ok, other=0.0)
                here = (place * states + n) * channels + d
                q = tl.load(later + here, mask=d < first, other=0.0)
                q += tl.load(between + here, mask=d < before, other=0.0)
                sum_A = tl.load(dA + here, mask=d < before, other=0.0)
                h = tl.load(
                    kept + ((place * tiles + t) * states + n) * channels + d,
                    mask=ok,
                    other=0.0,
                )
                hs, decays, Bs = (h,), (), ()
                for i in tl.static_range(tile):
                    row = proj + (pixels[i] * directions + k) * size + rank
                    B = tl.load(row + n, mask=insides[i], other=0.0).to(tl.float32)
                    a = tl.exp2(dts[i] * (A_n * LOG2E))
                    h = a * h + (dts[i] * us[i]) * B
                    hs, decays, Bs = hs + (h,), decays + (a,), Bs + (B,)
                new_dws, new_ddts = (), ()
                for i in tl.static_range(tile - 1, -1, -1):
                    row = proj + (pixels[i] * directions + k) * size + rank
                    C = tl.load(row + states + n, mask=insides[i], other=0.0)
                    g = C.to(tl.float32) * dys[i] + q
                    q = decays[i] * g
                    e = q * hs[i]
                    sum_A += e * dts[i]
                    # From the last step to the first, so in front.
                    new_dws = (dws[i] + g * Bs[i],) + new_dws
                    new_ddts = (ddts[i] + e * A_n,) + new_ddts
                    entry = (whole + pixels[i]) * directions + k
                    of_B = dproj + entry * 2 * states + n
                    dB = tl.reduce(g * (dts[i] * us[i]), 0, add)
                    dC = tl.reduce(hs[i + 1] * dys[i], 0, add)
                    tl.store(of_B, dB, mask=insides[i])
                    tl.store(of_B + states, dC, mask=insides[i])
                dws, ddts = new_dws, new_ddts
                tl.store(between + here, q, mask=ok)
                tl.store(dA + here, sum_A, mask=ok)
            for i in tl.static_range(tile):
                mask = d < tl.where(insides[i], channels, 0)
                dz = ddts[i] + dws[i] * us[i]
                if plus:
                    dz = dz * softplus_slope(dts[i])
                sum_bias += tl.where(mask, dz, 0.0)
                sum_skip += dys[i] * us[i]
                tl.store(ddelta + pixels[i] * stride + channel, dz, mask=mask)
                write = dx + pixels[i] * pitch + shift + d
                value = dws[i] * dts[i] + dys[i] * D
                if shared:
                    added = mask & (d < tl.where(second == 1, channels, 0))
                    value += tl.load(write, mask=added, other=0.0)
                tl.store(write, value, mask=mask)
            tl.debug_barrier()  # what one lane wrote another may read and add to
        tl.store(dbias + place * channels + d, sum_bias, mask=ok)
        tl.store(dskip + place * channels + d, sum_skip, mask=ok)
