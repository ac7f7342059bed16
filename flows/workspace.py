"""Where a run works: the checkout itself, or a git worktree of its own.

A worktree has the checkout's uncommitted changes, its data and its DVC cache, and a
params.yaml of its own. It goes when the run ends; what stays is runs/<run>/<data set>/.
"""

import fcntl
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from flows.dvc_lock import mend
from flows.limits import NoTurnError
from flows.pipeline import dvc, source_stage
from flows.plan import Plan
from flows.repository import changed, git
from flows.retries import patiently
from flows.tracked import restore
from flows.versions import is_whole, put_version
from pipelines import overrides
from pipelines.paths import Paths


@contextmanager
def workspace(
    plan: Plan, name: str, log: Callable[[str], None], seconds: float | None = None
) -> Iterator[Path]:
    """Yield the root in which the plan's stages run.

    In the checkout each of its data sets is held alone; NoTurnError where others hold
    one for `seconds`.
    """
    home = plan.root / ".kmunet" / "workspaces"
    home.mkdir(parents=True, exist_ok=True)
    prune(plan.root, home)
    if not plan.private:
        with ExitStack() as stack:
            for dataset in sorted(plan.datasets):  # one order: none waits in a ring
                lock = plan.root / ".kmunet" / f"checkout-{dataset}.lock"
                stack.enter_context(held(lock, log, seconds))
            mend(plan.root, log)
            for dataset in plan.datasets:
                _restore(plan, plan.root, dataset, log)
            yield plan.root
        return
    place = home / slug(name)
    lock = place.with_name(f"{place.name}.lock")
    with held(lock, log, seconds):
        try:
            create(plan, place, log)
            yield place
        finally:
            remove(plan.root, place)
            lock.unlink(missing_ok=True)


def create(plan: Plan, place: Path, log: Callable[[str], None]) -> None:
    """Make the worktree: code, cache, environment, data and params."""
    git(plan.root, "worktree", "add", "--detach", "--force", str(place))
    _overlay(plan.root, place)
    (place / ".venv").unlink(missing_ok=True)
    (place / ".venv").symlink_to(Path(sys.prefix).resolve())
    _share_cache(plan.root, place)
    for dataset in plan.datasets:
        if plan.version:
            put_version(place, dataset, plan.version)
        else:
            _link_raw(plan, place, dataset)
        if dataset not in plan.raw:
            _restore(plan, place, dataset, log)
    values: dict[str, overrides.Value] = {"datasets": list(plan.datasets)}
    overrides.write(place / "params.yaml", values | dict(plan.overrides))


def _restore(plan: Plan, place: Path, dataset: str, log: Callable[[str], None]) -> None:
    """Bring raw data back; where results are shared, only if they must be looked at."""
    if not (plan.share and is_whole(place, dataset)):
        patiently(lambda: restore(place, dataset, log), log)


def remove(root: Path, place: Path) -> None:
    """Remove a worktree and what git knows of it."""
    shutil.rmtree(place, ignore_errors=True)
    git(root, "worktree", "prune")


def prune(root: Path, home: Path) -> None:
    """Remove the worktrees of runs that died: nobody holds their lock."""
    for lock in sorted(home.glob("*.lock")):
        with lock.open("a") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(root, lock.with_suffix(""))
            lock.unlink(missing_ok=True)


def publish(plan: Plan, place: Path, name: str, dataset: str) -> Path:
    """Copy one data set's results to runs/<name>/<dataset>/; return that folder."""
    source, target = Paths(place, dataset), plan.root / "runs" / slug(name) / dataset
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for folder, into in ((source.report, "report"), (source.model, "model")):
        if folder.exists():
            shutil.copytree(folder, target / into, copy_function=shutil.copyfile)
    files = {
        "metrics.json": source.metrics,
        "registered.json": source.registration,
        "splits.json": source.splits / "splits.json",
        "params.yaml": place / "params.yaml",
        "dvc.lock": place / "dvc.lock",
    }
    for into, file in files.items():
        if file.exists():
            shutil.copyfile(file, target / into)
    return target


def slug(name: str) -> str:
    """Return a run's name as a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"


def _overlay(root: Path, place: Path) -> None:
    for path in changed(root):
        source, target = root / path, place / path
        if target.is_symlink() or target.exists():
            target.unlink()
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _share_cache(root: Path, place: Path) -> None:
    cache = (root / dvc(root, "cache", "dir").strip()).resolve()
    local = root / ".dvc" / "config.local"
    if local.exists():
        shutil.copyfile(local, place / ".dvc" / "config.local")
    settings = {
        "cache.dir": str(cache),
        "cache.type": "reflink,hardlink,symlink",
        "core.site_cache_dir": str(place / ".dvc" / "tmp" / "site"),
    }
    for key, value in settings.items():
        dvc(place, "config", "--local", key, value)


def _link_raw(plan: Plan, place: Path, dataset: str) -> None:
    """Put the data where prepare reads it; an archive alone into a folder."""
    target, given = Paths(place, dataset).raw, plan.raw.get(dataset)
    here = Paths(plan.root, dataset).raw
    target.parent.mkdir(parents=True, exist_ok=True)
    if given:
        shutil.rmtree(target, ignore_errors=True)  # .dvc files that git has there
    if given and given.is_file():
        target.mkdir()
        (target / given.name).symlink_to(given)
    elif given:
        target.symlink_to(given)
    elif not source_stage(place, dataset) and here.exists() and not target.exists():
        target.symlink_to(here.resolve())


@contextmanager
def held(
    lock: Path, log: Callable[[str], None], seconds: float | None = None
) -> Iterator[None]:
    """Hold a lock file; wait, and say so, while another run holds it.

    NoTurnError after `seconds`.
    """
    end = None if seconds is None else time.monotonic() + seconds
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        waiting = False
        while not _take(file.fileno()):
            if not waiting:
                log(f"waiting for the run that holds {lock}")
            waiting = True
            if end is not None and time.monotonic() > end:
                raise NoTurnError(f"{lock}: another run held it all the time")
            time.sleep(0.5)
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
