"""Runs a command that does not outlive its owner, nor does anything it starts.

`python leash.py COMMAND…`, a script of its own: standard input is a pipe that the
owner keeps open. When that closes, because the owner let go or died of whatever
cause, a stage (`python -m pipelines.…`) or a command of ours (`python -m kmunet.cli …`)
gets SIGTERM and SAVING seconds to save what it has, and then DVC CLOSING seconds to put
its locks away; then every descendant gets SIGTERM and, GRACE seconds later, SIGKILL. As
a subreaper, prctl(2), it also finds those that have left the process group.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from itertools import pairwise

import psutil

SAVING, CLOSING, GRACE = 8.0, 2.0, 6.0  # seconds; Prefect gives a cancelled flow run 30
PR_SET_CHILD_SUBREAPER = 36
OURS = ("pipelines", "kmunet")  # packages whose processes save what they have


def main(command: list[str]) -> int:
    """Run `command`; return its exit code, or 143 when the owner let go."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # only the pipe ends it
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
        ended = os.pidfd_open(child.pid)
        ready, _, _ = select.select([sys.stdin.fileno(), ended], [], [])
        if ended in ready:
            code = child.wait()
            end_descendants(GRACE)
            return code if code >= 0 else 128 - code
        if let_stages_save(SAVING):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CLOSING)
        end_descendants(GRACE)
    return 128 + signal.SIGTERM


def let_stages_save(limit: float) -> bool:
    """Send SIGTERM to the stage alone, while the processes that it needs still live.

    Return whether there is one, and it has ended.
    """
    stages = [process for process in _alive() if _is_stage(process)]
    for process in stages:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(stages, timeout=limit)
    return bool(stages) and not alive


def _is_stage(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        return any(
            option == "-m" and module.partition(".")[0] in OURS
            for option, module in pairwise(command)
        )
    return False


def end_descendants(grace: float) -> None:
    """Send SIGTERM to all descendants, and SIGKILL to those alive after `grace` s."""
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while descendants := _alive():
        late = time.monotonic() > deadline
        for process in descendants:
            if late or process.pid not in asked:
                asked.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill() if late else process.terminate()
        time.sleep(0.05)


def _alive() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    for process in found:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(process.pid, os.WNOHANG)  # ours now, if its parent is gone
    return [process for process in found if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
