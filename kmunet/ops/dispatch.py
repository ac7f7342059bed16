"""The one place that decides which selective scan runs.

A faster version registers itself with a name, the devices it serves and whether it
is usable here; "auto" takes the first usable one of the list for the device.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from kmunet.errors import ConfigError
from kmunet.ops import chunked, cpu, naive

logger = logging.getLogger("kmunet.ops")

Scan = Callable[..., Tensor]


@dataclass(frozen=True)
class Backend:
    """One version of the scan: what it is called, where it runs, what is called."""

    name: str
    scan: Scan
    devices: frozenset[str] = frozenset()  # empty: any
    usable: Callable[[], bool] = lambda: True
    scan_2d: Scan | None = None  # fused, for float32; else the 2-D scan is composed

    def serves(self, device: str) -> bool:
        """Whether this version runs on that kind of device, on this machine."""
        return (not self.devices or device in self.devices) and self.usable()


_registry: dict[str, Backend] = {}  # in order of preference for "auto"
_chosen = "auto"
_announced: set[str] = set()


def register(backend: Backend, *, first: bool = False) -> None:
    """Add a version; `first` puts it before all others in the order of "auto"."""
    others = {k: v for k, v in _registry.items() if k != backend.name}
    _registry.clear()
    mine = {backend.name: backend}
    _registry.update({**mine, **others} if first else {**others, **mine})


def backends() -> tuple[str, ...]:
    """The names that `use_backend` knows."""
    return ("auto", *_registry)


class use_backend:  # noqa: N801 (called as a function, or entered with `with`)
    """Choose the scan by name, for good or as a context manager.

    Raises ConfigError for an unknown name, or one that cannot run on this machine.
    """

    def __init__(self, name: str) -> None:
        global _chosen
        if name not in backends():
            raise ConfigError(
                f"unknown scan backend '{name}'; known are {', '.join(backends())}"
            )
        if name != "auto" and not _registry[name].usable():
            raise ConfigError(
                f"scan backend '{name}' cannot run on this machine; choose 'auto'"
            )
        self._before, _chosen = _chosen, name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _chosen
        _chosen = self._before


def backend(device: str | torch.device = "cpu") -> str:
    """The name of the scan that runs on that device, "auto" resolved."""
    return _resolve(torch.device(device).type).name


def _resolve(device: str) -> Backend:
    if _chosen != "auto":
        return _registry[_chosen]
    return next(b for b in _registry.values() if b.serves(device))


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t;  y_t = <C_t, h_t> + D u_t.

    Shapes: u, delta (B, D, L); A (D, N); B, C (B, G, N, L) or (B, N, L), G dividing D;
    D, delta_bias (D). Returns y (B, D, L) in the dtype of u. Semantics of mamba-ssm.
    """
    chosen = chosen_for(u)
    return chosen.scan(u, delta, A, B, C, D, delta_bias, delta_softplus)


def chosen_for(x: Tensor) -> Backend:
    """What runs for a tensor where it is; logged at the first use."""
    chosen = _resolve(x.device.type)
    if chosen.name not in _announced:
        _announced.add(chosen.name)
        logger.info("selective scan: %s on %s", chosen.name, x.device.type)
    return chosen


register(
    Backend(
        "cpu",
        cpu.selective_scan,
        frozenset({"cpu"}),
        cpu.usable,
        cpu.selective_scan_2d,
    )
)
register(Backend("chunked", chunked.selective_scan))
register(Backend("naive", naive.selective_scan))
