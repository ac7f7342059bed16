"""The leash with real processes: nothing outlives its owner."""

import os
import signal
import subprocess
import sys

import pytest
from small_project import environment, gone

from flows import process

# Prints its own pid, a child's, and that of one which left the group.
FAMILY = """
import os, subprocess, sys, time
code = "import signal, time; signal.signal(15, signal.SIG_DFL); "
code += "print(1, flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
away = subprocess.Popen([sys.executable, "-c", code], start_new_session=True,
                        stdout=subprocess.PIPE)
away.stdout.readline()
print("ready", os.getpid(), child.pid, away.pid, flush=True)
time.sleep(99)
"""
DEAF = FAMILY.replace("SIG_DFL", "SIG_IGN")  # SIGKILL alone ends it
OWNER = """
import os, sys
from pathlib import Path
from flows import process
process.stream([sys.executable, "-c", sys.argv[1]], cwd=Path.cwd(), env=os.environ,
               on_line=lambda line: print(line, flush=True))
"""


class Interruption(BaseException):
    pass


def run(code, tmp_path, on_line=lambda line: None):
    command = [sys.executable, "-c", code]
    return process.stream(command, cwd=tmp_path, env=os.environ, on_line=on_line)


def test_lines_and_exit_code_come_through(tmp_path):
    lines = []
    code = "import sys; print('é'); print('no newline', end=''); sys.exit(7)"
    assert run(code, tmp_path, lines.append) == 7
    assert lines == ["é", "no newline"]


def test_lines_come_as_they_are_printed(tmp_path):
    code = "import time; print('now', flush=True); time.sleep(99)"
    with pytest.raises(Interruption):
        run(code, tmp_path, _interrupt)


def test_an_interrupted_caller_ends_the_whole_tree(tmp_path):
    pids = []

    def remember(line):
        pids.extend(map(int, line.split()[1:]))
        _interrupt(line)

    with pytest.raises(Interruption):
        run(FAMILY, tmp_path, remember)
    assert len(pids) == 3
    assert gone(pids, limit=1.0)


def test_a_command_whose_time_is_up_ends_with_all_it_started(tmp_path):
    pids = []
    with pytest.raises(process.TimeLimitError):
        process.stream(
            [sys.executable, "-c", FAMILY],
            cwd=tmp_path,
            env=os.environ,
            on_line=lambda line: pids.extend(map(int, line.split()[1:])),
            limit=5.0,
        )
    assert len(pids) == 3
    assert gone(pids, limit=1.0)


def test_a_killed_owner_takes_the_whole_tree_with_it():
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, DEAF],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        pids = list(map(int, owner.stdout.readline().split()[1:]))
        assert len(pids) == 3
        owner.send_signal(signal.SIGKILL)
    assert gone(pids)


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    pids = []
    code = (
        FAMILY.replace("time.sleep(99)\n", "", 1)
        .rstrip()
        .removesuffix("time.sleep(99)")
    )
    run(code, tmp_path, lambda line: pids.extend(map(int, line.split()[1:])))
    assert len(pids) == 3
    assert gone(pids, limit=1.0)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("plain", "plain"),
        ("\x1b[32mgreen\x1b[0m ", "green"),
        ("ends so\r", "ends so"),
        ("\x1b[2K epoch 3 ━━", ""),
        ("10%\r20%", ""),
    ],
)
def test_a_log_gets_text_and_no_progress_bars(line, text):
    assert process.plain(line) == text


def _interrupt(line):
    raise Interruption(line)


STAGE = """
import signal, subprocess, sys, time
from pathlib import Path

helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])

def save(number, frame):
    time.sleep(1)
    Path("saved").write_text(str(helper.poll()))
    sys.exit(2)

signal.signal(signal.SIGTERM, save)
print("ready", helper.pid, flush=True)
time.sleep(99)
"""


CLOSE = "sleep 0.5; echo > closed; exit 2"


@pytest.mark.parametrize("module", ["pipelines.slow", "kmunet.cli"])
def test_a_stage_may_save_before_what_it_needs_is_ended(tmp_path, module):
    package, name = module.split(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / f"{name}.py").write_text(STAGE)
    pids = []

    def remember(line):
        pids.extend(map(int, line.split()[1:]))
        _interrupt(line)

    command = ["sh", "-c", f"{sys.executable} -m {module}; {CLOSE}"]
    with pytest.raises(Interruption):
        process.stream(command, cwd=tmp_path, env=os.environ, on_line=remember)
    assert (tmp_path / "saved").read_text() == "None"  # its helper was alive
    assert (tmp_path / "closed").exists()  # so was who had called it
    assert gone(pids)
