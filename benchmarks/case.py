"""What one measurement is: a part of the work, who does it, on how many pixels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PARTS = ("scan", "kan", "ss2d", "step", "inference")
LIMITS = "limits"
OURS = "kmunet"
COMPILING = 300.0  # seconds that a first call may take that compiles
_BF16, _GRAPHS = " bf16", " graphs"  # what a peer's name may end with, in reverse

# A part of a call that is timed by itself; one name may come several times.
Phase = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class Case:
    """`peer` does `part` on `batch` images of `size` x `size` pixels."""

    part: str
    peer: str
    size: int
    batch: int
    device: str = "cpu"
    threads: int = 1
    seconds: float = 60.0  # limit of one call
    published: tuple[str, ...] = ()  # folders of published code

    @property
    def group(self) -> tuple[str, int, int]:
        """Cases of one group are timed in turns and compared with each other."""
        return self.part, self.size, self.batch

    @property
    def bf16(self) -> bool:
        return self.peer.endswith(_BF16)

    @property
    def graphs(self) -> bool:
        """Compiled, and its kernels launched as CUDA graphs."""
        return self.peer.removesuffix(_BF16).endswith(_GRAPHS)

    @property
    def compiles(self) -> bool:
        """The first call: a network, or on a GPU kernels, which are then tuned."""
        return self.graphs or self.device == "cuda"

    @property
    def first_seconds(self) -> float:
        """Limit of the first call."""
        return max(self.seconds, COMPILING) if self.compiles else self.seconds

    @property
    def deterministic(self) -> bool:
        """Ours on a GPU, as `fit` trains; others run by their own default."""
        trained = self.part not in (LIMITS, "inference")
        return self.device == "cuda" and trained and self.peer.startswith(OURS)

    @property
    def ahead(self) -> bool:
        """Whether a GPU is timed without the launches: operators, not networks."""
        return self.part in ("scan", "kan", "ss2d")

    @property
    def who(self) -> str:
        """The peer without its dtype and how it runs."""
        return self.peer.removesuffix(_BF16).removesuffix(_GRAPHS)


@dataclass
class Work:
    """What a case calls, and what that needs at least.

    `flop` (2 a multiply-add), `exps` and `bytes` (inputs, outputs and parameters, each
    once) belong to the problem, whoever solves it; 0 where not counted.
    """

    phases: list[Phase]
    flop: float = 0.0
    exps: float = 0.0
    bytes: float = 0.0
    injected: list[str] = field(default_factory=list)  # stand-ins for other packages
    amounts: dict[str, float] = field(default_factory=dict)  # by phase, for limits
