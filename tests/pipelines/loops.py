"""Worker loops for the Ray tests; workers import them by name."""

import json
import os
import signal
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from kmunet.errors import TrainingError, TrainingStoppedError
from kmunet.training import Progress


def _report(reporter, epoch, values):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "epoch").write_text(f"{epoch} {values}")
        state = {"step": epoch, "batch": 1, "epoch": epoch, "best_epoch": 0}
        Path(folder, "state.json").write_text(json.dumps(state))
        saved = Path(folder) if reporter.rank == 0 else None
        reporter.report({"epoch": float(epoch)}, saved)


def _first(reporter):
    for opened in reporter.checkpoints():
        with opened as folder:
            return int((folder / "epoch").read_text().split()[0])
    return 0


def count(config, reporter):
    """Three epochs; every rank adds its number plus one over gloo."""
    for epoch in range(_first(reporter) + 1, 4):
        total = torch.tensor([reporter.rank + 1.0])
        if reporter.world_size > 1:
            dist.all_reduce(total)
        if reporter.rank == 0:
            reporter.progress(Progress(epoch, 3, epoch, 3, 0.5, 0.5, 1.0))
        _report(reporter, epoch, total.item())


def die_once(config, reporter):
    """Kill the last rank's process in the second epoch of the first attempt."""
    start = _first(reporter)
    starts = Path(config["starts"])
    first_attempt = not starts.exists()
    dist.barrier()
    if reporter.rank == 0:
        with starts.open("a") as file:
            file.write(f"{start}\n")
    dist.barrier()
    for epoch in range(start + 1, 4):
        if epoch == 2 and first_attempt and reporter.rank == 1:
            time.sleep(5)  # rank 0 stores the first
            os.kill(os.getpid(), signal.SIGKILL)
        _report(reporter, epoch, 0)


def wait_to_be_stopped(config, reporter):
    """Say that it runs, and stop when told, as `fit` does."""
    if reporter.rank == 0:
        reporter.progress(Progress(1, 1, 1, 1, 0.5, 0.5, 1.0))
    while not reporter.should_stop():
        time.sleep(0.05)
    _report(reporter, 1, 0)
    raise TrainingStoppedError("stopped in epoch 1 after step 1, and saved")


def fail(config, reporter):
    """End with an error that a user can mend; starting again would not."""
    with Path(config["starts"]).open("a") as file:
        file.write("start\n")
    raise TrainingError("the loss is nan in epoch 1, step 1: lower train.lr")


def checkpoints_of(config, reporter):
    """Epochs of so many bytes, up to a best one; each start says what it finds."""
    found = []
    for opened in reporter.checkpoints():
        with opened as folder:
            found.append((folder / "epoch").read_text())
    with Path(config["starts"]).open("a") as file:
        file.write(f"{','.join(found) or 'nothing'}\n")
    start = int(found[0]) if found else 0
    for epoch in range(start + 1, config["epochs"] + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            best = min(epoch, config["best"])
            state = {"step": epoch, "batch": 0, "epoch": epoch, "best_epoch": best}
            (folder / "state.json").write_text(json.dumps(state))
            (folder / "epoch").write_text(str(epoch))
            (folder / "weights").write_bytes(b"w" * config["bytes"])
            reporter.report({"epoch": float(epoch)}, folder)
        if epoch == config.get("killed") and not start:
            os.kill(os.getpid(), signal.SIGKILL)
