"""Checkpoints in Ray's storage: stored whole or not at all, the newest and best kept.

What lies in a run's folder is what a training goes on from and what is counted, not
Ray's list of it: that misses what a killed controller had not taken up, and a kill may
cut it short. `best-<epoch>` beside the newest is the whole state after the best epoch,
for where they are damaged.
"""

import json
import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray.train

from kmunet.errors import RemoteError, SpaceError, TrainingError
from kmunet.training.space import copy_checkpoint
from pipelines.storage import KEPT

SAVED, BEST = "checkpoint_", "best-"
LIST = "checkpoint_manager_snapshot.json"  # Ray's
LAST = "state.json"  # of a checkpoint's files, where it is whole


def check_storage() -> None:
    """On a worker: that its node can write there; an outage is waited for.

    Raises TrainingError naming the node.
    """
    system, home = place()
    node = platform.node()
    if not _is_local(system):
        try:
            system.handler.check(f"{home}/.probe-{node}-{os.getpid()}")
        except RemoteError as error:
            raise TrainingError(f"node {node}: {error}") from error
    elif not Path(home).is_dir():
        raise TrainingError(
            f"checkpoints go to {home}, which node {node} has not: set KMUNET_STORAGE "
            "to s3://bucket/prefix, or to a folder that all nodes share"
        )


def place() -> tuple[Any, str]:
    """On a worker: the file system and the run's folder there."""
    storage = ray.train.get_context().get_storage()
    return storage.storage_filesystem, str(storage.experiment_fs_path)


def stored(system: Any, home: str) -> list[str]:
    """Paths of a run's checkpoints: the newest first, then the best.

    Two are the best where a kill came between the new one and the old one's end.
    """
    return [*reversed(_named(system, home, SAVED)), *reversed(_bests(system, home))]


def forget_list(system: Any, home: str) -> None:
    """Before a run: cut short, or of folders that are not there, Ray's list ends it."""
    listed = f"{home}/{LIST}"
    if system.get_file_info(listed).type != pyarrow.fs.FileType.NotFound:
        system.delete_file(listed)


def keep(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
    """Ray's `checkpoint_upload_fn`: a local folder goes into the run's folder.

    There it is named by its step, then `name`. Raises SpaceError with nothing of it
    left, so that the one before is the newest. Of those before, what is no longer
    needed goes, and whatever has its step or a later one: the training came from before
    that, because it is damaged or was not stored whole.
    """
    system, home = place()
    source = Path(checkpoint.path)
    state = json.loads((source / LAST).read_text(encoding="utf-8"))
    name = f"{SAVED}{state['step']:09d}_{name.removeprefix(SAVED)}"
    target = f"{home}/{name}"
    if _is_local(system):
        copy_checkpoint(source, Path(target))
    else:
        # state.json, which makes it whole, comes last.
        for file in sorted(source.iterdir(), key=lambda f: (f.name == LAST, f.name)):
            system.handler.upload(file, f"{target}/{file.name}")
    if (epoch := _best_epoch(state)) is not None:
        _keep_best(system, home, name, f"{BEST}{epoch:06d}")
    for old in _outlived(system, home, target, f"{SAVED}{state['step']:09d}"):
        with suppress(OSError):  # still open somewhere, or gone
            system.delete_dir(old)
    return ray.train.Checkpoint(target, filesystem=system)


def _outlived(system: Any, home: str, new: str, step: str) -> list[str]:
    """What is not kept beside the new one, whose name begins with `step`."""
    others = [path for path in _named(system, home, SAVED) if path != new]
    before = [
        path for path in others if path < f"{home}/{step}" and _whole(system, path)
    ]
    kept = before[-(KEPT - 1) :]
    return [p for p in others if p not in kept] + _named(system, home, f".{SAVED}")


def _whole(system: Any, path: str) -> bool:
    """Whether all of it was stored; not whether it is undamaged."""
    last = system.get_file_info(f"{path}/{LAST}")
    return bool(last.type != pyarrow.fs.FileType.NotFound)


def _best_epoch(state: dict[str, Any]) -> int | None:
    """The epoch that this checkpoint was saved after, if it is the best so far."""
    ends = state["batch"] == 0 and state["epoch"] == state["best_epoch"]
    return int(state["epoch"]) if ends and state["epoch"] else None


def _keep_best(system: Any, home: str, name: str, best: str) -> None:
    """A second name for the files of `name`, or a copy that S3 makes itself."""
    before = [path for path in _bests(system, home) if path != f"{home}/{best}"]
    if _is_local(system):
        _link(Path(home, name), Path(home, best))
    else:
        listed = system.get_file_info(pyarrow.fs.FileSelector(f"{home}/{name}"))
        for file in sorted(listed, key=lambda f: (f.base_name == LAST, f.path)):
            system.copy_file(file.path, f"{home}/{best}/{file.base_name}")
    for path in before:
        system.delete_dir(path)


def _link(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}")
    for left_over in (fresh, target):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        shutil.copytree(source, fresh, copy_function=os.link)
    except OSError:  # a file system without hard links
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            copy_checkpoint(source, fresh)
        except SpaceError:
            return  # the newest ones are what a training goes on from
    fresh.rename(target)


def _bests(system: Any, home: str) -> list[str]:
    return _named(system, home, BEST)


def _named(system: Any, home: str, start: str) -> list[str]:
    """Folders whose names begin so, sorted."""
    found = system.get_file_info(pyarrow.fs.FileSelector(home, allow_not_found=True))
    return sorted(
        file.path
        for file in found
        if file.base_name.startswith(start) and file.base_name != LIST
    )


def _is_local(system: Any) -> bool:
    return isinstance(system, pyarrow.fs.LocalFileSystem)
