"""Which cases a run has: who is measured at which sizes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import published
from benchmarks.case import LIMITS, OURS, PARTS, Case
from benchmarks.modules import RECURSION
from benchmarks.networks import others
from benchmarks.scan import scan_peers
from benchmarks.scan_peers import REFERENCE
from kmunet.ops import backend, mamba

BF16 = f"{OURS} bf16"
GRAPHS = f"{OURS} graphs bf16"
_LARGEST = {  # side in pixels up to which a slow one is tried, one image at a time
    "naive": 128,
    "chunked": 512,
    REFERENCE: 128,
    published.KM_UNET: 128,
}
_LEFT_OUT = ("u_kan", "attention_unet", published.KM_UNET)  # of a quick run
_LARGE_BATCH = 256  # pixels at which batches of more than one image are measured


@dataclass(frozen=True)
class Settings:
    """What a run measures; two runs with the same settings can be joined."""

    device: str
    threads: int
    sizes: tuple[int, ...]
    batches: tuple[int, ...]  # more than one image: at 256 pixels, or the largest size
    parts: tuple[str, ...] = PARTS
    published: tuple[str, ...] = ()
    repeats: int = 5
    patience: float = 15.0  # (CPU) seconds for the repeats of one case
    seconds: float = 60.0  # limit of one call
    slowest: float = 180.0  # limit of the reference scan
    few: bool = False  # leave out who is slow, or like another


def full(device: str, threads: int, published: tuple[str, ...]) -> Settings:
    batches = (1, 8, 64) if device == "cuda" else (1, 8)
    repeats = 20 if device == "cuda" else 5
    sizes = (128, 256, 512, 1024)
    return Settings(device, threads, sizes, batches, PARTS, published, repeats)


def quick(device: str, threads: int, published: tuple[str, ...]) -> Settings:
    """About a minute."""
    return Settings(
        *(device, threads, (64, 128), (1,), PARTS, published),
        repeats=2,
        patience=2.0,
        seconds=10.0,
        few=True,
    )


def threads_here() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def groups(settings: Settings) -> Iterator[list[Case]]:
    """Cases by group, ours first in each."""
    here = published.find(settings.published)
    for part in settings.parts:
        for size, batch in _shapes(settings):
            peers = [
                peer
                for peer in _peers(part, settings, set(here))
                if part == "kan" or _in_reach(peer, size, batch)
            ]
            yield [_case(settings, part, peer, size, batch) for peer in peers]


def limits_case(settings: Settings) -> Case:
    return _case(settings, LIMITS, "machine", 0, 0)


def _shapes(settings: Settings) -> list[tuple[int, int]]:
    found = [(size, 1) for size in settings.sizes if 1 in settings.batches]
    at = _LARGE_BATCH if _LARGE_BATCH in settings.sizes else max(settings.sizes)
    return found + [(at, batch) for batch in settings.batches if batch > 1]


def _peers(part: str, settings: Settings, theirs: set[str]) -> list[str]:
    if part == "scan":
        return scan_peers(settings.device)
    if part == "kan":
        return [OURS, RECURSION, *sorted(theirs)[:1]]
    ours = backend(settings.device)
    km_unet = [published.KM_UNET, published.WITH_SCAN + ours]
    km_unet = km_unet if published.KM_UNET in theirs else []
    if part == "ss2d":
        return [OURS, *(["chunked"] if ours != "chunked" else []), *km_unet]
    u_kan = [published.U_KAN] if published.U_KAN in theirs else []
    # A GPU waits for launches where images are few.
    graphs = [GRAPHS] if settings.device == "cuda" else []
    found = [OURS, BF16, *graphs, *others(), *u_kan, *km_unet]
    if settings.few:
        return [peer for peer in found if peer not in _LEFT_OUT]
    if part == "step" and km_unet:
        found.append(published.WITH_SCAN + REFERENCE)
    return found


def _in_reach(peer: str, size: int, batch: int) -> bool:
    """Slow ones at small sizes only; on a GPU the published code has its own kernel."""
    if peer == GRAPHS:  # a minute or more of compiling for each shape
        return size == _LARGE_BATCH
    if peer == published.KM_UNET and mamba.usable():
        return True
    largest = _LARGEST.get(peer.removeprefix(published.WITH_SCAN))
    if largest is None or (peer == "chunked" and batch > 1):
        return True
    return size <= largest and batch == 1


def _case(settings: Settings, part: str, peer: str, size: int, batch: int) -> Case:
    slowest = peer == published.WITH_SCAN + REFERENCE
    return Case(
        part,
        peer,
        size,
        batch,
        device=settings.device,
        threads=settings.threads,
        seconds=settings.slowest if slowest else settings.seconds,
        published=settings.published,
    )
