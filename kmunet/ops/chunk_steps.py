"""The chunk loops of `kmunet.ops.chunked`, forward and backward, time first.

h_t = exp(dt_t A) h_(t-1) + w_t B_t with w = dt u, and y_t = <C_t, h_t>. With g_t the
gradient of h_t: g_t = dy_t C_t + exp(dt_(t+1) A) g_(t+1); all else follows from g.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Lanes that step together, and elements of a chunk: what fits a core's cache.
LANES = 32768
CHUNK = 2**19


@dataclass(frozen=True)
class Sequence:
    """One scan: dt, input = dt u (L, B, G, D); A (G, N, D); B, C (L, B, G, N).

    D counts the channels of one group.
    """

    dt: Tensor
    input: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    def slabs(self) -> Iterator[slice]:
        """Parts of the batch that are scanned one after the other."""
        size = max(1, LANES // self.A.numel())
        batch = self.dt.shape[1]
        return (slice(i, min(i + size, batch)) for i in range(0, batch, size))

    def part(self, slab: slice) -> "Sequence":
        """The scan of some images of the batch."""
        dt, w, B, C = (x[:, slab] for x in (self.dt, self.input, self.B, self.C))
        return Sequence(dt, w, self.A, B, C)

    def steps(self) -> int:
        """Steps of a chunk."""
        lanes = self.dt.shape[1] * self.A.numel()
        return max(1, min(self.dt.shape[0], CHUNK // lanes))

    def chunks(self) -> list[slice]:
        """The chunks of time, in order."""
        steps, length = self.steps(), self.dt.shape[0]
        return [slice(i, min(i + steps, length)) for i in range(0, length, steps)]


@dataclass(frozen=True)
class Gradients:
    """dt, input (L, B, G, D); A (G, N, D); B, C (L, B, G, N)."""

    dt: Tensor
    input: Tensor
    A: Tensor
    B: Tensor
    C: Tensor


class _Workspace:
    """Decays (T, B, G, N, D), and states with the one before the chunk in front."""

    def __init__(self, sequence: Sequence) -> None:
        groups, states, channels = sequence.A.shape
        shape = (sequence.dt.shape[1], groups, states, channels)
        steps = sequence.steps()
        new = sequence.dt.new_empty
        self.decay = new(steps, *shape)
        self.state = new(steps + 1, *shape)
        self.adjoint = new(steps, *shape)

    def fill(self, sequence: Sequence, chunk: slice, start: Tensor) -> int:
        """Compute decays and states of a chunk from the state before it."""
        steps: int = chunk.stop - chunk.start
        decay, state = self.decay[:steps], self.state[: steps + 1]
        dt, w = sequence.dt[chunk].unsqueeze(-2), sequence.input[chunk].unsqueeze(-2)
        torch.mul(dt, sequence.A, out=decay).exp_()
        torch.mul(w, sequence.B[chunk].unsqueeze(-1), out=state[1:])
        state[0] = start
        before, *after = state.unbind(0)
        for a, h in zip(decay.unbind(0), after, strict=True):
            h.addcmul_(a, before)
            before = h
        return steps


def kept_size(batch: int, length: int, states: int) -> int:
    """Numbers in the kept states of a scan with `states` in A."""
    like = torch.empty((), device="meta")
    shape = (length, batch, 1, states)
    some = like.expand(shape)
    return _kept_size(Sequence(some, some, like.expand(1, 1, states), some, some))


def _kept_size(sequence: Sequence) -> int:
    size = 0
    for slab in sequence.slabs():
        lanes = (slab.stop - slab.start) * sequence.A.numel()
        size += len(sequence.part(slab).chunks()) * lanes
    return size


def _starts(sequence: Sequence, kept: Tensor) -> Iterator[Tensor]:
    """For each slab, its states (chunks, B, G, N, D) at the start of its chunks."""
    for slab in sequence.slabs():
        count, batch = len(sequence.part(slab).chunks()), slab.stop - slab.start
        shape = (count, batch, *sequence.A.shape)
        size = count * batch * sequence.A.numel()
        yield kept[:size].view(shape)
        kept = kept[size:]


def forward_chunks(sequence: Sequence) -> tuple[Tensor, Tensor]:
    """y (L, B, G, D), and the states at the start of each slab's chunks, flat."""
    y = torch.empty_like(sequence.dt)
    kept = sequence.dt.new_zeros(_kept_size(sequence))
    for slab, start in zip(sequence.slabs(), _starts(sequence, kept), strict=True):
        part, chunks = sequence.part(slab), sequence.part(slab).chunks()
        work = _Workspace(part)
        for i, chunk in enumerate(chunks):
            steps = work.fill(part, chunk, start[i])
            row = part.C[chunk].unsqueeze(-2)  # (T, B, G, 1, N)
            y[chunk, slab] = (row @ work.state[1 : steps + 1]).squeeze(-2)
            if i + 1 < len(chunks):
                start[i + 1] = work.state[steps]
    return y, kept


def backward_chunks(sequence: Sequence, grad: Tensor, kept: Tensor) -> Gradients:
    """Gradients from grad (L, B, G, D), chunk by chunk from the end."""
    found = Gradients(
        torch.empty_like(sequence.dt),
        torch.empty_like(sequence.dt),
        torch.zeros_like(sequence.A),
        torch.empty_like(sequence.B),
        torch.empty_like(sequence.C),
    )
    for slab, start in zip(sequence.slabs(), _starts(sequence, kept), strict=True):
        part = sequence.part(slab)
        work = _Workspace(part)
        later = torch.zeros_like(start[0])
        for i, chunk in reversed(list(enumerate(part.chunks()))):
            work.fill(part, chunk, start[i])
            later = _chunk_gradients(
                work, part, grad[:, slab], chunk, later, found, slab
            )
    return found


def _chunk_gradients(
    work: _Workspace,
    part: Sequence,
    grad: Tensor,
    chunk: slice,
    later: Tensor,
    found: Gradients,
    slab: slice,
) -> Tensor:
    """Write one chunk's gradients; return what its first state owes the one before."""
    steps = chunk.stop - chunk.start
    decay, state, g = work.decay[:steps], work.state[: steps + 1], work.adjoint[:steps]
    dy = grad[chunk]
    torch.mul(dy.unsqueeze(-2), part.C[chunk].unsqueeze(-1), out=g)
    g[-1] += later
    after, *earlier = reversed(g.unbind(0))
    for a, before in zip(reversed(decay.unbind(0)), earlier, strict=False):
        before.addcmul_(a, after)
        after = before
    later = decay[0] * g[0]
    row = part.B[chunk].unsqueeze(-2)  # (T, B, G, 1, N)
    found.input[chunk, slab] = (row @ g).squeeze(-2)
    found.B[chunk, slab] = (g @ part.input[chunk].unsqueeze(-1)).squeeze(-1)
    found.C[chunk, slab] = (state[1:] @ dy.unsqueeze(-1)).squeeze(-1)
    exponent = decay.mul_(state[:-1]).mul_(g)  # gradient of dt A
    torch.mul(exponent, part.A, out=g)
    found.dt[chunk, slab] = g.sum(-2)
    exponent.mul_(part.dt[chunk].unsqueeze(-2))
    found.A.add_(exponent.sum((0, 1)))
    return later
