"""A sweep under way: its parameters, its parent run, its end.

Shared by folds and seeds (sweep_folds.py) and searches (sweep_search.py).
"""

import argparse
import hashlib
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from kmunet.config import Params, load_params
from kmunet.data.atomic import new_folder
from kmunet.device import choose_device
from kmunet.errors import ConfigError, ServiceError
from kmunet.report import SweepReport, write_sweep_report
from pipelines import overrides
from pipelines.as_prepared import check_given, how_to_prepare
from pipelines.paths import state_dir
from pipelines.ray_trials import Share, begin, leaving_ray
from pipelines.register import numbers
from pipelines.signals import asking_to_stop
from pipelines.stage import short
from pipelines.sweep_log import SweepLog
from pipelines.sweep_plan import Trial, changed
from pipelines.sweep_store import TrialStore
from pipelines.tracking_sweep import SweepRuns

INTERRUPTED, FAILED = 130, 1


def given(arguments: argparse.Namespace, root: Path) -> dict[str, overrides.Value]:
    """The values of --set and --folds. Raises ConfigError."""
    pairs = dict(map(overrides.parse, arguments.set))
    values = overrides.expand(root / "params.yaml", pairs)
    if arguments.folds is not None:
        values |= {"split.folds": arguments.folds, "split.fold": 0}
    return values


def base_params(
    values: dict[str, overrides.Value], root: Path, datasets: Sequence[str]
) -> Params:
    """params.yaml with these values, checked; a trial is one process."""
    path = root / "params.yaml"
    base, params = load_params(path), overrides.overridden(path, values)
    for dataset in datasets:
        check_given(base, params, dataset, how_to_prepare(params, dataset))
    return changed(params, {"train.workers": 1})


def share(arguments: argparse.Namespace, params: Params) -> Share:
    """What a trial asks of Ray. Raises ConfigError for no share at all."""
    gpu = choose_device(params.train.device).type == "cuda"
    cpus = params.train.threads if arguments.cpus is None else arguments.cpus
    gpus = float(gpu) if arguments.gpus is None else arguments.gpus
    if cpus <= 0 or gpus < 0:
        raise ConfigError("--cpus must be above 0 and --gpus at least 0")
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus {gpus:g}: a share of one GPU, or whole ones")
    return Share(cpus, gpus, params.train.max_failures)


@dataclass
class Begun:
    """A sweep under way."""

    root: Path
    name: str
    log: SweepLog
    stopped: bool = False  # by a signal

    @contextmanager
    def running(self, share: Share) -> Iterator[Event]:
        """Ray is there; the event is set by SIGTERM or Ctrl-C, that trials may save."""
        begin(share)  # and has set a handler of its own for SIGTERM
        with asking_to_stop(signal.SIGINT, signal.SIGTERM) as asked:
            yield asked
            self.stopped = asked.is_set()

    def tell(self, report: SweepReport, out: Path | None, kind: dict[str, Any]) -> int:
        """Write the report, close the parent run, say it; the exit code."""
        folder = out or self.root / "runs" / self.name
        with new_folder(folder) as partial:
            write_sweep_report(partial, report)
        self.log.close(kind, numbers(dict(report.summary), ""), folder, self.stopped)
        print("\n".join([*_table(report), "", *report.sentences]))
        print(f"report: {short(folder.absolute() / 'report.html')}", flush=True)
        return self._code()

    def _code(self) -> int:
        done = sum(o["status"] != "interrupted" for o in self.log.outcomes.values())
        for trial in self.log.failed:
            outcome = self.log.outcomes[trial.name]
            print(f"failed: {trial.label}: {outcome['message']} ({outcome['file']})")
        if done < len(self.log.trials):
            print(
                f"stopped: {done} of {len(self.log.trials)} trials are done; the same "
                "command goes on from here"
            )
            return INTERRUPTED
        return FAILED if self.log.failed or self.log.trouble else 0


@contextmanager
def begun(
    root: Path, params: Params, trials: Sequence[Trial], kind: str, rules: str = ""
) -> Iterator[Begun]:
    """A sweep, its MLflow parent open.

    It is the same sweep, and goes on, where `kind`, `rules` and all trials are.
    """
    digest = hashlib.sha256("".join([kind, rules, *(t.name for t in trials)]).encode())
    datasets = "-".join(dict.fromkeys(trial.dataset for trial in trials))
    identity = f"{kind}-{datasets}-{digest.hexdigest()[:8]}"
    runs = SweepRuns(root, f"{params.register_.prefix}-sweeps", identity, identity)
    with _leaving_none_open(runs), leaving_ray():
        log = SweepLog(trials, TrialStore(state_dir(root) / "sweeps"), runs)
        print(f"{identity}: {len(trials)} trials", flush=True)
        yield Begun(root, identity, log)


@contextmanager
def _leaving_none_open(runs: SweepRuns) -> Iterator[None]:
    """After an error no run seems to go on; the same command opens them again."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        with suppress(ServiceError):
            runs.abandon("KILLED" if stopped else "FAILED")
        raise


def _table(report: SweepReport) -> list[str]:
    """The rows in columns, for a terminal."""
    cells = [list(report.columns)]
    for row in report.rows:
        cells.append(["" if row[c] is None else str(row[c]) for c in report.columns])
    widths = [max(len(line[n]) for line in cells) for n in range(len(report.columns))]
    return [
        "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True))
        for line in cells
    ]
