"""How a scan is cut up on a GPU: by its sizes alone, since that orders the sums."""

from dataclasses import dataclass

TILE = 8  # steps between kept states: 4 / 8 bytes a state; unrolled going back


@dataclass(frozen=True)
class Plan:
    """Positions of a chunk, and the channels of a program of the backward pass."""

    chunk: int
    block: int
    tile: int = TILE

    def chunks(self, length: int) -> int:
        return -(-length // self.chunk)

    def tiles(self) -> int:
        return -(-self.chunk // self.tile)

    def blocks(self, channels: int) -> int:
        return -(-channels // self.block)


def plan(length: int, channels: int) -> Plan:
    """Enough programs for an H100 at batch 8, and independent of the batch."""
    chunk = 128 if length > 8192 else 64 if length > 512 else 32
    return Plan(chunk, 32 if channels <= 32 else 64)
