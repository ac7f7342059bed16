"""One DVC stage, computed once for all who share a remote.

`python -m flows.shared_cache [--force] STAGE@DATASET` looks the stage up in the run
cache of the default remote, by a hash of its command, parameters and inputs. What is
found is only noted in dvc.lock: the data stay in the remote until a stage that runs
needs them. What is not found runs, and its outputs and its entry are sent.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.fs import generic
from dvc.repo import Repo, lock_repo
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile

from flows.pipeline import DVC
from flows.retries import is_away
from kmunet.data.network import is_transient
from kmunet.errors import KMUNetError, RemoteError, UnreachableError
from pipelines.stage import report_errors

SMALL = 2**20  # bytes: metrics and the like are brought, whoever needs them


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code of DVC where it ran the stage."""
    parser = argparse.ArgumentParser(prog="python -m flows.shared_cache")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("address")
    arguments = parser.parse_args(argv)
    codes = [0]
    code = report_errors(
        "share", lambda: codes.append(_guarded(arguments.address, arguments.force))
    )
    return code or codes[-1]


def _guarded(address: str, force: bool) -> int:
    try:
        return reproduce(address, force)
    except KMUNetError:
        raise
    except Exception as error:  # of DVC, and of what is below its file systems
        chain = f"{error!r} {error.__cause__!r} {error.__context__!r}"
        away = is_transient(error) or is_away(chain)
        if not away and not isinstance(error, DvcException | OSError):
            raise
        kind = UnreachableError if away else RemoteError
        raise kind(
            f"{address}: the DVC remote: {error or type(error).__name__}; check "
            "`kmunet doctor`, network and keys, then run the same again"
        ) from error


def reproduce(address: str, force: bool) -> int:
    """Take the stage from the remote, else run it and send what came of it."""
    if not force and take(address):
        return 0
    if code := _run([*DVC, "pull", *found]) if (found := _absent(address)) else 0:
        return code
    options = ["--force"] if force else []
    if code := _run([*DVC, "repro", "--single-item", *options, address]):
        return code
    give(address)
    return 0


def take(address: str) -> bool:
    """Note in dvc.lock what the stage's outputs are, where that is known.

    Its small files are brought. False: nobody has computed it from these inputs.
    """
    repo, stage = _load(address)
    if not _know_inputs(repo, stage):
        return False
    key = _key(stage)
    known = _known(repo, stage, key)
    if known is None or not (_is_here(known) or _is_there(repo, known)):
        return False  # or collected as garbage
    for out in stage.outs:
        (found,) = (item for item in known.outs if item.def_path == out.def_path)
        out.hash_info, out.meta = found.hash_info, found.meta
    said = f"Stage '{address}' is cached - skipping run: known to the remote"
    print(said, flush=True)  # before DVC speaks of its lock file
    with lock_repo(repo):
        stage.dump(update_pipeline=False)
    _remove_stale(known)
    _bring_small(repo, known)
    if not _remote_entries(repo, key) or not _is_there(repo, known):
        _send(repo, known, key)  # it was computed here, and could not be sent then
    return True


def give(address: str) -> None:
    """Send the outputs of a stage that has run here, then its run-cache entry."""
    repo, stage = _load(address)
    repo.stage_cache.save(stage)  # where it had not to run, there may be none
    _know_inputs(repo, stage)
    key = _key(stage)
    _send(repo, _known(repo, stage, key), key)


def _send(repo: Any, known: Any, key: str) -> None:
    for objects in known.get_used_objs().values():
        if failed := repo.cloud.push(objects).failed:
            raise UnreachableError(
                f"{len(failed)} files did not reach the DVC remote; run the same again"
            )
    if _remote_entries(repo, key):
        return
    odb, folder = _runs(repo, key)
    local = Path(repo.stage_cache._get_cache_dir(key))
    for file in sorted(local.iterdir()):
        there = odb.fs.join(folder, file.name)
        generic.copy(repo.cache.legacy.fs, str(file), odb.fs, there)


def _load(address: str) -> tuple[Any, Any]:
    repo = Repo(str(Path.cwd()))
    return repo, repo.stage.load_one("dvc.yaml", address)


def _know_inputs(repo: Any, stage: Any) -> bool:
    """Fill in the hashes of the inputs: of what is here, else as DVC has noted them."""
    for dep in stage.deps:
        if dep.exists:
            dep.save()
            continue
        found = repo.find_outs_by_path(dep.fs_path, strict=False)
        if len(found) != 1 or found[0].fs_path != dep.fs_path or not found[0].hash_info:
            return False
        dep.hash_info, dep.meta = found[0].hash_info, found[0].meta
    return True


def _absent(address: str) -> list[str]:
    """The inputs that are not here, as paths."""
    _, stage = _load(address)
    return [dep.def_path for dep in stage.deps if not dep.exists]


def _key(stage: Any) -> str:
    """DVC's key of a run: command, parameters, hashes of inputs, names of outputs.

    As dvc.stage.cache has it, which would read inputs that are not here.
    """
    return str(_get_cache_hash(to_single_stage_lockfile(stage), key=True))


def _known(repo: Any, stage: Any, key: str) -> Any:
    """The stage with its outputs as the run cache has them, or None.

    This machine's entry, else the remote's.
    """
    local = Path(repo.stage_cache._get_cache_dir(key))
    if not local.is_dir():
        for there in _remote_entries(repo, key)[:1]:
            here = str(local / there.rpartition("/")[2])
            repo.cache.legacy.makedirs(str(local))
            odb, _ = _runs(repo, key)
            generic.copy(odb.fs, there, repo.cache.legacy.fs, here)
    names = sorted(file.name for file in local.iterdir()) if local.is_dir() else []
    found = (repo.stage_cache._load_cache(key, name) for name in names)
    entry = next((entry for entry in found if entry), None)
    return entry and repo.stage_cache._create_stage(entry, wdir=stage.wdir)


def _runs(repo: Any, key: str) -> tuple[Any, str]:
    odb = repo.cloud.get_remote_odb(None, "share", hash_name="md5-dos2unix")
    return odb, odb.fs.join(odb.path, "runs", key[:2], key)


def _remote_entries(repo: Any, key: str) -> list[str]:
    odb, folder = _runs(repo, key)
    return sorted(odb.fs.find(folder)) if odb.fs.exists(folder) else []


def _is_here(known: Any) -> bool:
    return all(not out.changed_cache() for out in known.outs)


def _is_there(repo: Any, known: Any) -> bool:
    odb = repo.cloud.get_remote_odb(None, "share")
    return all(odb.exists(out.hash_info.value) for out in known.outs)


def _remove_stale(known: Any) -> None:
    """What lies here of other inputs would be taken for the stage's outputs."""
    for out in known.outs:
        if out.exists and out.changed_checksum():
            out.remove()


def _bring_small(repo: Any, known: Any) -> None:
    with repo.stage_cache._cache_type_copy():
        for out in known.outs:
            if out.hash_info.isdir or (out.meta.size or 0) > SMALL or out.exists:
                continue
            for objects in out.get_used_objs().values():
                repo.cloud.pull(objects)
            out.checkout()


def _run(command: list[str]) -> int:
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
