"""DVC's run cache of one stage, here and in the default remote, looked up by key.

DVC itself copies the whole run cache at each `--pull`; an entry is a small file at
runs/<key>/, which two requests find. Uses names that DVC does not document: constraints
pin its version, and tests/flows/test_shared_cache.py holds what is needed of them.
"""

from pathlib import Path
from typing import Any

from dvc.fs import generic
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile

from kmunet.errors import UnreachableError

SMALL = 2**20  # bytes: metrics and the like are brought, whoever needs them


def load(address: str) -> tuple[Any, Any]:
    """The repository around the current directory, and one of its stages."""
    repo = Repo(str(Path.cwd()), _wait_for_lock=True)
    return repo, repo.stage.load_one("dvc.yaml", address)


def know_inputs(repo: Any, stage: Any) -> bool:
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


def key(stage: Any) -> str:
    """DVC's key of a run: command, parameters, hashes of inputs, names of outputs.

    As dvc.stage.cache has it, which would read inputs that are not here.
    """
    return str(_get_cache_hash(to_single_stage_lockfile(stage), key=True))


def known(repo: Any, stage: Any, key: str) -> Any:
    """The stage with its outputs as the run cache has them, or None.

    This machine's entry, else the remote's.
    """
    local = Path(repo.stage_cache._get_cache_dir(key))
    if not local.is_dir():
        for there in remote_entries(repo, key)[:1]:
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


def remote_entries(repo: Any, key: str) -> list[str]:
    """Where the default remote has what runs with this key came to."""
    odb, folder = _runs(repo, key)
    return sorted(odb.fs.find(folder)) if odb.fs.exists(folder) else []


def send(repo: Any, known: Any, key: str) -> None:
    """Send outputs, then the entry: who finds the entry finds them all."""
    for objects in known.get_used_objs().values():
        if failed := repo.cloud.push(objects).failed:
            raise UnreachableError(
                f"{len(failed)} files did not reach the DVC remote; run the same again"
            )
    if remote_entries(repo, key):
        return
    odb, folder = _runs(repo, key)
    local = Path(repo.stage_cache._get_cache_dir(key))
    for file in sorted(local.iterdir()):
        there = odb.fs.join(folder, file.name)
        generic.copy(repo.cache.legacy.fs, str(file), odb.fs, there)


def is_here(known: Any) -> bool:
    """Whether this machine's cache has all outputs."""
    return all(not out.changed_cache() for out in known.outs)


def is_there(repo: Any, known: Any) -> bool:
    """Whether the default remote has all outputs."""
    odb = repo.cloud.get_remote_odb(None, "share")
    return all(odb.exists(out.hash_info.value) for out in known.outs)


def remove_stale(known: Any) -> None:
    """What lies here of other inputs would be taken for the stage's outputs."""
    for out in known.outs:
        if out.exists and out.changed_checksum():
            out.remove()


def bring_small(repo: Any, known: Any) -> None:
    """Put files of up to SMALL bytes where the stage would have."""
    with repo.stage_cache._cache_type_copy():
        for out in known.outs:
            if out.hash_info.isdir or (out.meta.size or 0) > SMALL or out.exists:
                continue
            for objects in out.get_used_objs().values():
                repo.cloud.pull(objects)
            out.checkout()
