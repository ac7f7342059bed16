"""Cases of one group, called in turns: what disturbs the machine disturbs them all."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.case import Case
from benchmarks.processes import start
from benchmarks.worker import serve

START_LIMIT = 120.0  # seconds for imports and building
_POLL = 0.2  # seconds
_CROWDED = 4  # times the limit that a call gets which does not get the cores
_SPARE = 0.4  # share of memory that stays free while another case is started

Times = dict[str, dict[str, float]]  # seconds by phase, by clock


class TooLongError(Exception):
    """A call that did not end within its limit; `cpu` seconds were spent on it."""

    def __init__(self, wall: float, cpu: float) -> None:
        super().__init__(f"more than {wall:.0f} s ({cpu:.0f} CPU s)")
        self.wall, self.cpu = wall, cpu


class Runner:
    """A worker process and the samples it gave so far."""

    def __init__(self, case: Case) -> None:
        self.case, self.samples = case, list[Times]()
        # The server has imported torch and run nothing.
        preload = ["benchmarks.preload"]
        self._process, self._connection = start(serve, case, preload=preload)
        self.about = dict[str, Any]()
        self.spent = 0.0

    def begin(self) -> None:
        """Wait until it is built, and call it once: memory, caches, choices."""
        self.about = self._receive(START_LIMIT)
        self.first = self._ask("call", self.case.first_seconds)
        self.memory = self._ask("memory")
        if self.case.compiles:  # which does not use up the patience
            self.spent = 0.0

    def call(self) -> None:
        self.samples.append(self._ask("call"))
        self.memory = self._ask("memory")

    def stop(self) -> None:
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, what: str, limit: float | None = None) -> Any:
        start, before = time.perf_counter(), cpu_seconds(self._process.pid)
        try:
            self._connection.send(what)
        except OSError:
            raise WorkerError(self._ended()) from None
        answer = self._receive(limit or self.case.seconds)
        wall = time.perf_counter() - start
        cpu = cpu_seconds(self._process.pid) - before
        # Waiting for cores that others use does not use up the patience.
        self.spent += wall if self.case.device == "cuda" else min(wall, cpu)
        return answer

    def _receive(self, limit: float) -> Any:
        """The next answer. Where others use the cores, CPU seconds count too."""
        start, before = time.perf_counter(), cpu_seconds(self._process.pid)
        while not self._connection.poll(_POLL):
            wall = time.perf_counter() - start
            cpu = cpu_seconds(self._process.pid) - before
            if wall > limit and (cpu > limit or wall > _CROWDED * limit):
                self._process.kill()
                raise TooLongError(wall, cpu)
        try:
            answer = self._connection.recv()
        except EOFError:
            raise WorkerError(self._ended()) from None
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer

    def _ended(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        return f"the process ended with {code}" + (" (memory?)" if code == -9 else "")


class WorkerError(Exception):
    """What went wrong in a worker, in a line."""


def cpu_seconds(pid: int | None) -> float:
    """Of a running process, all threads; 0 where the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Round:
    """Runs a group: as many cases at once as memory allows, the first in every one."""

    repeats: int
    patience: float  # (CPU) seconds after which a case gets no more repeats
    results: dict[Case, dict[str, Any]] = field(default_factory=dict)

    def run(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Results in the order of `cases`: figures, or {"failed": why}."""
        first, rest = cases[0], list(cases[1:])
        while True:
            runners = self._start_some(first, rest)
            self._take_turns(runners)
            for runner in runners:
                self._keep(runner)
            if not rest:
                return [self.results[case] for case in cases]

    def _start_some(self, first: Case, rest: list[Case]) -> list[Runner]:
        waiting, runners = [Runner(first)], list[Runner]()
        # Two build at once; the first calls come one after another. On a GPU what the
        # next one builds would disturb the tuning of the one before's kernels.
        most = 1 if first.device == "cuda" else 2
        while True:
            while (
                rest and len(waiting) < most and (_free_share() > _SPARE or not runners)
            ):
                waiting.append(Runner(rest.pop(0)))
            if not waiting:
                return runners
            runner = waiting.pop(0)
            if self._attempt(runner, runner.begin):
                runners.append(runner)

    def _take_turns(self, runners: list[Runner]) -> None:
        for _ in range(self.repeats):
            for runner in list(runners):
                if runner.spent >= self.patience:
                    continue
                if not self._attempt(runner, runner.call):
                    runners.remove(runner)

    def _attempt(self, runner: Runner, do: Any) -> bool:
        try:
            do()
        except TooLongError as error:
            failed = {"failed": str(error), "at_least": vars(error)}
        except WorkerError as error:
            failed = {"failed": str(error)}
        else:
            return True
        runner.stop()
        self.results[runner.case] = failed | {"injected": runner.about.get("injected")}
        return False

    def _keep(self, runner: Runner) -> None:
        runner.stop()
        before = self.results.get(runner.case)
        if before is None or "failed" in before:
            self.results[runner.case] = summary(runner)


def summary(runner: Runner) -> dict[str, Any]:
    """Least and median over repeats; the phases are those of the least."""
    cold = not runner.samples  # too slow for a second call
    samples = runner.samples or [runner.first]
    clock = "gpu" if runner.case.device == "cuda" else "cpu"
    found: dict[str, Any] = {"repeats": len(samples), "cold": cold}
    for name in samples[0][next(iter(samples[0]))]:
        totals = [sum(phase[name] for phase in sample.values()) for sample in samples]
        found |= {name: min(totals), f"{name}_median": median(totals)}
    best = min(samples, key=lambda s: sum(phase[clock] for phase in s.values()))
    memory = runner.memory
    found |= {"phases": best, "peak": memory["peak"]}
    return found | runner.about | {"working": memory["peak"] - memory["start"]}


def _free_share() -> float:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 0.0  # then one case at a time, beside the first
    found = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
    return found["MemAvailable"] / found["MemTotal"]
