"""A whole run: group after group, kept as it goes, so that a stopped one goes on."""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import plan, published
from benchmarks.case import Case
from benchmarks.goals import goals
from benchmarks.measure import machine, rounded
from benchmarks.networks import OTHERS, others
from benchmarks.plan import Settings
from benchmarks.plot import plot
from benchmarks.rows import Row, add_shares, best_rates, group_rows
from benchmarks.tables import show
from benchmarks.turns import Round
from kmunet.device import choose_device
from kmunet.errors import ConfigError, KMUNetError

_PROJECT = Path(__file__).resolve().parent.parent
_SOURCES = ("kmunet", "benchmarks")
_OF_A_START = ("load_at_start", "memory_gb")
_BETWEEN_LIMITS = 8  # groups after which the limits are measured again


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What the command line asks for. Raises ConfigError naming the option."""
    device = choose_device(arguments.device).type
    threads = arguments.threads or plan.threads_here()
    make = plan.quick if arguments.quick else plan.full
    settings = make(device, threads, tuple(arguments.published))
    given = {
        "parts": tuple(arguments.parts or ()),
        "sizes": tuple(arguments.sizes or ()),
        "repeats": arguments.repeats,
    }
    changed = {name: value for name, value in given.items() if value}
    for size in changed.get("sizes", ()):
        if size < 64 or size % 32:
            raise ConfigError(f"--sizes {size}: give multiples of 32 from 64 on")
    published.find(settings.published)
    return dataclasses.replace(settings, **changed)


def bench(settings: Settings, out: Path) -> dict[str, Any]:
    """Measure all groups; write `out` and the plot beside it; print the tables."""
    # Threads that wait actively cost CPU time as soon as there is other work.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    # Asking whether there is a GPU must not start CUDA where workers fork from.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    torch.set_num_threads(settings.threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = _Kept(out.with_suffix(".part.json"), settings)
    _tell_left_out(settings)
    rows, measured = _measure(settings, kept)
    limits = best_rates(measured, settings.device)
    for row in rows:
        add_shares(row, limits, settings.device)
    result = {
        "machine": kept.machine,
        "settings": _settings(settings),
        "limits": limits,
        "rows": rows,
        "goals": [goal.judge(rows) for goal in goals(settings.device)],
    }
    show(result)
    out.write_text(json.dumps(rounded(result), indent=1, sort_keys=True) + "\n")
    _try_plot(result, out.with_suffix(".png"))
    kept.path.unlink()
    print(f"figures: {out}")
    return result


def _measure(settings: Settings, kept: "_Kept") -> tuple[list[Row], list[Row]]:
    """Rows of all groups, and the limits measured before, between and after them."""
    rounds, limits = list(plan.groups(settings)), plan.limits_case(settings)
    rows: list[Row] = []
    measured = [_limits(kept.do("limits 0", settings, [limits]))]
    for done, cases in enumerate(rounds, start=1):
        part, size, batch = cases[0].group
        name = f"{part}, {batch} x {size} x {size}"
        start = time.perf_counter()
        rows += group_rows(cases, kept.do(name, settings, cases))
        seconds = time.perf_counter() - start
        print(f"{done}/{len(rounds)} {name}: {seconds:.0f} s", file=sys.stderr)
        if done % _BETWEEN_LIMITS == 0 or done == len(rounds):
            again = kept.do(f"limits {done}", settings, [limits])
            measured.append(_limits(again))
    return rows, measured


def _tell_left_out(settings: Settings) -> None:
    missing = sorted(set(OTHERS) - set(others()))
    if missing and {"step", "inference"} & set(settings.parts):
        print(f"no {', '.join(missing)}: MONAI is not installed", file=sys.stderr)


def _limits(results: list[Row]) -> Row:
    if "failed" in results[0]:
        raise KMUNetError(
            f"the limits of the machine could not be measured: {results[0]['failed']}"
        )
    return results[0]


class _Kept:
    """Results by group on disk; those of another machine, code or setting are left."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.machine = path, machine()
        self._of = json.loads(
            json.dumps([_settings(settings), _code(), _same_machine()])
        )
        self._groups: dict[str, list[Row]] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            if stored["of"] == self._of:
                self._groups = stored["groups"]
                print(f"going on after {len(self._groups)} groups", file=sys.stderr)
            else:
                _tell_refused(path, stored["of"], self._of)

    def do(self, name: str, settings: Settings, cases: list[Case]) -> list[Row]:
        if name not in self._groups:
            turns = Round(settings.repeats, settings.patience)
            self._groups[name] = turns.run(cases)
            text = json.dumps({"of": self._of, "groups": self._groups})
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(text)
            temporary.replace(self.path)
        return self._groups[name]


def _settings(settings: Settings) -> dict[str, Any]:
    """Without the user's folders."""
    found = dataclasses.asdict(settings)
    return found | {"published": sorted(published.find(settings.published))}


def _tell_refused(path: Path, theirs: list[Any], ours: list[Any]) -> None:
    pairs = zip(("settings", "code", "machine"), theirs, ours, strict=True)
    differing = ", ".join(name for name, one, other in pairs if one != other)
    print(f"{path}: of another {differing}; measuring all anew", file=sys.stderr)


def _same_machine() -> dict[str, Any]:
    """Without what two machines of a kind need not share to the last GB."""
    return {k: v for k, v in machine().items() if k not in _OF_A_START}


def _code() -> str:
    """A hash of what is measured."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((_PROJECT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".h"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _try_plot(result: dict[str, Any], path: Path) -> None:
    try:
        plot(result, path)
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
    else:
        print(f"plot: {path}")
