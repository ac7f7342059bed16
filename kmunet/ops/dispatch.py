"""The one place that decides which selective scan runs.

A version registers itself with a name, the devices it serves and whether it is usable
here; "auto" takes the first usable one of the list for the device.
"""

import logging
from types import TracebackType

import torch

from kmunet.errors import ConfigError
from kmunet.ops.backend import Backend

logger = logging.getLogger("kmunet.ops")

DOUBLE = "chunked"  # what scans float64 where the chosen version does not

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
    return resolve(_chosen, torch.device(device).type).name


def setting() -> str:
    """What was asked for: "auto" or a name. A compiled model is guarded by it."""
    return _chosen


def resolve(asked: str, device: str, double: bool = False) -> Backend:
    """The version for a device.

    `double`: for float64. Raises ConfigError where the named one cannot run there.
    """
    if asked == "auto":
        found = next(b for b in _registry.values() if b.suits(device))
    else:
        found = _registry[asked]
        if found.devices and device not in found.devices:
            raise ConfigError(
                f"scan backend '{asked}' does not run on {device}; choose 'auto'"
            )
    return _registry[DOUBLE] if double and not found.double else found


def name_for(asked: str, device: str, double: bool) -> str:
    """`resolve`, announced in the log at the first use."""
    found = resolve(asked, device, double)
    if found.name not in _announced:
        _announced.add(found.name)
        note = f" ({found.note})" if found.note else ""
        logger.info("selective scan: %s on %s%s", found.name, device, note)
    return found.name


# As torch.compiler.assume_constant_result does, without importing the compiler (1 s):
# it cannot follow the search for a kernel, and guards the setting that is asked for.
name_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def get(name: str) -> Backend:
    """A version by its name."""
    return _registry[name]
