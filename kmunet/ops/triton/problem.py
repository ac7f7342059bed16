"""One scan on a GPU: its tensors and sizes, and the launches of both passes."""

from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from kmunet.ops.triton.chunks import carry, chunk_ends
from kmunet.ops.triton.gradients import gradients
from kmunet.ops.triton.outputs import outputs
from kmunet.ops.triton.plan import Plan

BLOCK = 32  # channels of a program of `carry`: a warp
GROUP = 16  # states at a time: with more, registers spill and compiling takes minutes
LAUNCH: dict[str, Any] = {"num_warps": 1, "num_stages": 1}
# A multiply and an add are one operation, whatever Triton's default becomes.
FUSED: dict[str, Any] = {"enable_fp_fusion": True}
LAUNCHES = Lock()  # Triton's tuner holds a call's arguments in itself: not two threads


@dataclass(frozen=True)
class Problem:
    """x, delta (B, L, K D), proj (B, L, K, R + 2N), A (K D, N), weight (K D, R), ...

    With `shared`, x is (B, H W, D) and K = 4: rows, columns and both reversed. All
    tensors are dense; A, weight, bias and skip are float32.
    """

    x: Tensor
    delta: Tensor | None
    proj: Tensor
    A: Tensor
    weight: Tensor | None
    bias: Tensor | None
    skip: Tensor | None
    height: int
    width: int
    directions: int
    rank: int
    softplus: bool
    shared: bool
    plan: Plan

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        return self.A.shape[0] // self.directions

    @property
    def states(self) -> int:
        return self.A.shape[1]

    @property
    def chunks(self) -> int:
        return self.plan.chunks(self.height * self.width)

    def lines(self) -> int:
        """Sequences that are programs of their own; two directions share one."""
        return self.batch * (2 if self.shared else self.directions)

    def forward(self, keep: bool) -> tuple[Tensor, Tensor | None]:
        """y (B, L, D) float32 where shared, else as x; kept states, flat."""
        with LAUNCHES, torch.cuda.device_of(self.x):  # type: ignore[no-untyped-call]
            return self._forward(keep)

    def backward(self, dy: Tensor, kept: Tensor) -> dict[str, Tensor]:
        """Gradients by name: x, delta (B, L, K, D), bc (B, L, K, 2N), A, bias, skip."""
        with LAUNCHES, torch.cuda.device_of(self.x):  # type: ignore[no-untyped-call]
            return self._backward(dy, kept)

    def _forward(self, keep: bool) -> tuple[Tensor, Tensor | None]:
        starts = self._carried(self.x, adjoint=False)
        # A y that is added to is float32.
        y = self._slots(self.x.dtype if self.states <= GROUP else torch.float32)
        kept = self._float(self.kept_size() if keep else 0)
        given = (*self._inputs(self.x), self._or(self.skip), starts, y, kept)
        outputs[self._grid(self.lines())](
            *given,
            self.batch,
            *self._sizes(self.lines()),
            **self._switches(),
            has_skip=self.skip is not None,
            keep=keep,
            tile=self.plan.tile,
            group=min(self.states, GROUP),
            **FUSED,
        )
        # y is kept until the backward pass: not within twice its memory.
        y = torch.add(y[0], y[1]) if self.shared else y
        return y, kept if keep else None

    def _backward(self, dy: Tensor, kept: Tensor) -> dict[str, Tensor]:
        later = self._carried(dy, adjoint=True)
        new, length = self._float, self.height * self.width
        over = (self.batch, self.directions, self.chunks)
        dx, ddelta = self._slots(torch.float32), new(*self._per_direction())
        blocks = self.plan.blocks(self.channels)
        of_proj = (self.batch, length, self.directions, 2 * self.states)
        dproj, dA = new(blocks, *of_proj), torch.empty_like(later)
        dbias, dskip = (new(*over, self.channels) for _ in range(2))
        x, *others = self._inputs(self.x)
        found = (
            kept,
            later,
            torch.empty_like(later),
            dx,
            ddelta,
            dproj,
            dA,
            dbias,
            dskip,
        )
        gradients[(self.lines() * self.chunks * blocks,)](
            *(x, dy, *others, self._or(self.skip), *found, self.batch),
            *self._sizes(self.lines()),
            **self._switches(),
            has_skip=self.skip is not None,
            tile=self.plan.tile,
            block=self.plan.block,
            **FUSED,
        )
        return {
            "x": dx[0].add_(dx[1]) if self.shared else dx,
            "delta": ddelta,
            "bc": dproj[0] if blocks == 1 else dproj.sum(0),
            "A": dA.sum((0, 2)).transpose(1, 2).flatten(0, 1),
            "bias": dbias.sum((0, 2)).flatten(),
            "skip": dskip.sum((0, 2)).flatten(),
        }

    def kept_size(self) -> int:
        """Numbers of the kept states."""
        over = self.batch * self.directions * self.chunks * self.plan.tiles()
        return over * self.states * self.channels

    def _carried(self, x: Tensor, adjoint: bool) -> Tensor:
        """What each chunk begins with (B, K, chunks, N, D)."""
        lines, chunks = self.batch * self.directions, self.chunks
        shape = (self.batch, self.directions, chunks, self.states, self.channels)
        if chunks == 1:
            return torch.zeros(shape, dtype=torch.float32, device=x.device)
        ends, starts = self._float(*shape), self._float(*shape)
        spans = self._float(lines, chunks, self.channels)
        chunk_ends[self._grid(lines)](
            *self._inputs(x),
            *(ends, spans),
            *self._sizes(lines),
            **self._switches(),
            adjoint=adjoint,
            group=min(self.states, GROUP),
            **FUSED,
        )
        blocks = -(-self.channels // BLOCK)
        carry[(lines * self.states * blocks,)](
            *(ends, spans, self.A, starts, self.channels, self.states, chunks),
            directions=self.directions,
            shared=self.shared,
            adjoint=adjoint,
            block=BLOCK,
            **LAUNCH,
            **FUSED,
        )
        return starts

    def _inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        optional = (self._or(self.weight), self._or(self.bias))
        return x, self._or(self.delta), self.proj, self.A, *optional

    def _or(self, tensor: Tensor | None) -> Tensor:
        """Something to point at; what is None is never read."""
        return self.A if tensor is None else tensor

    def _sizes(self, lines: int) -> tuple[int, ...]:
        """Last, for the tuning alone, how busy the GPU is: programs, by powers of 2."""
        sizes = (self.height, self.width, self.channels, self.states)
        busy = (lines * self.chunks).bit_length()
        return *sizes, self.plan.chunk, self.chunks, busy

    def _switches(self) -> dict[str, Any]:
        return {
            "directions": self.directions,
            "rank": self.rank,
            "has_delta": self.delta is not None,
            "has_bias": self.bias is not None,
            "plus": self.softplus,
            "shared": self.shared,
        }

    def _grid(self, lines: int) -> Any:
        channels, programs = self.channels, lines * self.chunks
        return lambda meta: (programs * -(-channels // meta["block"]),)

    def _float(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.x.device)

    def _per_direction(self) -> tuple[int, ...]:
        return self.batch, self.height * self.width, self.directions, self.channels

    def _slots(self, dtype: torch.dtype) -> Tensor:
        """Where y or dx goes: for rows and columns apart where both share pixels."""
        if self.shared:
            return self._float(2, *self.x.shape)
        return torch.empty(self.x.shape, dtype=dtype, device=self.x.device)
