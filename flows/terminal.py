"""Whether stages show their own output: in a plain call, not under a worker."""

import sys
from collections.abc import Sequence
from typing import BinaryIO

_attached: BinaryIO | None = None


class Echo:
    """The terminal, up to the first of the marks that open DVC's advice."""

    def __init__(self, out: BinaryIO, until: Sequence[str]) -> None:
        self.out, self.until = out, [mark.encode() for mark in until]
        self.open = True

    def isatty(self) -> bool:
        return self.out.isatty()

    def fileno(self) -> int:
        return self.out.fileno()

    def write(self, chunk: bytes) -> None:
        """Show the bytes at once, progress bars included."""
        if self.open:
            found = [at for mark in self.until if (at := chunk.find(mark)) >= 0]
            self.open = not found
            self.out.write(chunk[: min(found)] if found else chunk)
            self.out.flush()


def attach() -> None:
    """From now on, show what stages print on standard output."""
    global _attached
    sys.stdout.flush()
    _attached = sys.stdout.buffer


def is_attached() -> bool:
    """Whether this is a plain call, whose user looks at the terminal."""
    return _attached is not None


def echo(until: Sequence[str]) -> Echo | None:
    """Return where a stage's output is shown, or None."""
    return Echo(_attached, until) if _attached else None
