"""A command's output as a stream of lines, and its end with the caller's.

The command runs under `leash.py`: it ends, with all it started, when the caller is
interrupted or dies. To a terminal it is shown through a pseudo-terminal, so that
progress bars move there.
"""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from flows.terminal import Echo

LEASH = Path(__file__).with_name("leash.py")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"\x1b[\[\]()][0-9;?]*[A-Za-z]")


class TimeLimitError(Exception):
    """A command took longer than it may."""


def stream(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    echo: Echo | None = None,
    limit: float | None = None,
) -> int:
    """Run `command`, pass each line of its output on; return its exit code.

    `echo` gets the bytes as they come. Whatever ends this call early (SIGTERM in a
    flow run, Ctrl-C, a kill) ends the command's whole tree of processes; so does
    `limit`, in seconds, with TimeLimitError.
    """
    deadline = None if limit is None else time.monotonic() + limit
    ours, theirs = pty.openpty() if _is_terminal(echo) else os.pipe()
    if _is_terminal(echo):
        _copy_size(echo, theirs)
    leash = subprocess.Popen(
        [sys.executable, str(LEASH), *command],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # Ctrl-C reaches the caller alone
    )
    os.close(theirs)
    try:
        for line in _lines(_chunks(ours, echo, deadline)):
            on_line(line)
        return leash.wait()
    finally:
        assert leash.stdin
        leash.stdin.close()
        leash.wait()
        os.close(ours)


def plain(line: str) -> str:
    """Return the text of a line, without colours; empty for a progress bar's."""
    text = _COLOUR.sub("", line.rstrip("\r"))
    return "" if "\r" in text or _CONTROL.search(text) else text.rstrip()


def _is_terminal(echo: Echo | None) -> bool:
    return echo is not None and echo.isatty()


def _copy_size(echo: Echo | None, terminal: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(echo or sys.stdout, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def _chunks(source: int, echo: Echo | None, deadline: float | None) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # EIO: how a pseudo-terminal ends
        while _wait(source, deadline) and (chunk := os.read(source, 65536)):
            if echo:
                echo.write(chunk)
            yield chunk


def _wait(source: int, deadline: float | None) -> bool:
    """Wait until there is something to read, or the end of it."""
    if deadline is None:
        return True  # reading waits
    left = max(deadline - time.monotonic(), 0.0)
    if select.select([source], [], [], left)[0]:
        return True
    raise TimeLimitError


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from lines
    if rest:
        yield rest
