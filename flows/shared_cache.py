"""One DVC stage, computed once for all who share a remote.

`python -m flows.shared_cache [--force] STAGE@DATASET` looks the stage up in the run
cache of the default remote, by a hash of its command, parameters and inputs. What is
found is only noted in dvc.lock: the data stay in the remote until a stage that runs
needs them. What is not found runs, and its outputs and its entry are sent.
"""

import argparse
import subprocess
import sys

from dvc.exceptions import DvcException
from dvc.repo import lock_repo

from flows import run_cache
from flows.pipeline import DVC
from flows.retries import is_away
from kmunet.data.network import is_transient
from kmunet.errors import KMUNetError, RemoteError, UnreachableError
from pipelines.stage import report_errors


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
    absent = _absent(address)
    if absent and (code := _run([*DVC, "pull", *absent])):
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
    repo, stage = run_cache.load(address)
    if not run_cache.know_inputs(repo, stage):
        return False
    key = run_cache.key(stage)
    known = run_cache.known(repo, stage, key)
    if known is None:
        return False
    there = run_cache.is_there(repo, known)
    if not (there or run_cache.is_here(known)):
        return False  # collected as garbage
    for out in stage.outs:
        (found,) = (item for item in known.outs if item.def_path == out.def_path)
        out.hash_info, out.meta = found.hash_info, found.meta
    said = f"Stage '{address}' is cached - skipping run: known to the remote"
    print(said, flush=True)  # before DVC speaks of its lock file
    with lock_repo(repo):
        stage.dump(update_pipeline=False)
    run_cache.remove_stale(known)
    run_cache.bring_small(repo, known)
    if not (there and run_cache.remote_entries(repo, key)):
        run_cache.send(repo, known, key)  # computed here, and could not be sent then
    return True


def give(address: str) -> None:
    """Send the outputs of a stage that has run here, then its run-cache entry."""
    repo, stage = run_cache.load(address)
    repo.stage_cache.save(stage)  # where it had not to run, there may be none
    run_cache.know_inputs(repo, stage)
    key = run_cache.key(stage)
    run_cache.send(repo, run_cache.known(repo, stage, key), key)


def _absent(address: str) -> list[str]:
    """The inputs that are not here, as paths."""
    _, stage = run_cache.load(address)
    return [dep.def_path for dep in stage.deps if not dep.exists]


def _run(command: list[str]) -> int:
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
