"""What a version of the selective scan brings with it: `Backend`, and its kernels.

A version with kernels runs inside the custom operators of `kmunet.ops.library`; one
without is ordinary differentiable torch code, called as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Scan = Callable[..., Tensor]
Inputs = Sequence[Tensor]
Optional = Sequence[Tensor | None]


class Kernels(Protocol):
    """The one-dimensional scan on (u, delta, A, B, C, D, delta_bias).

    u, delta (B, D, L); A (D, N); B, C (B, G, N, L); D, delta_bias (D) or None, of any
    floating dtypes. Results may have any strides and any dtype.
    """

    def kept_size(self, batch: int, length: int, channels: int, *more: int) -> int:
        """Numbers kept for the backward pass, for sizes B, L, D, N, G."""

    def forward(
        self, tensors: Optional, softplus: bool, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """y (B, D, L), and what `keep` asks to keep (float32; the state's dtype)."""

    def backward(
        self, grad: Tensor, tensors: Optional, kept: Tensor, softplus: bool
    ) -> Optional:
        """A gradient for each of the tensors, None where there is none of them."""


class Kernels2d(Protocol):
    """The fused 2-D scan on (pixels, x_proj, dt weight, dt bias, A_logs, Ds).

    pixels (B, H, W, D) of any floating dtype, dense; the others float32.
    """

    keeps_projections: bool  # for the backward pass; else they are None

    def kept_size(self, sizes: Sequence[int], states: int, rank: int) -> int:
        """Numbers kept for the backward pass, for pixels of sizes (B, H, W, D)."""

    def forward(
        self, tensors: Inputs, keep: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """y (B, H, W, D), projections (B, H, W, 4 (R + 2N)) and what is kept."""

    def backward(
        self, grad: Tensor, tensors: Inputs, proj: Tensor | None, kept: Tensor
    ) -> Inputs:
        """A gradient for each of the tensors."""


@dataclass(frozen=True)
class Backend:
    """One version of the scan: what it is called, where it runs, what is called."""

    name: str
    scan: Scan | None = None  # differentiable torch code; None: `kernels`
    devices: frozenset[str] = frozenset()  # empty: any
    usable: Callable[[], bool] = lambda: True
    kernels: Callable[[], Kernels] | None = None
    kernels_2d: Callable[[], Kernels2d] | None = None  # else the 2-D scan is composed
    double: bool = True  # float64 too; else that goes to the chunked scan
    automatic: frozenset[str] | None = None  # where "auto" may take it; None: anywhere
    note: str = ""  # what the log says of it

    def serves(self, device: str) -> bool:
        """Whether this version runs on that kind of device, on this machine."""
        return (not self.devices or device in self.devices) and self.usable()

    def suits(self, device: str) -> bool:
        """Whether "auto" may take it there."""
        allowed = self.automatic is None or device in self.automatic
        return allowed and self.serves(device)
