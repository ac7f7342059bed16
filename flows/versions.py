"""A data set as it was: at a git revision, or with the content that DVC knows by MD5.

Only the .dvc files of its raw data are of that version, not code and parameters.
"""

import re
from pathlib import Path, PurePosixPath

import yaml

from flows.repository import git
from flows.tracked import tracked
from kmunet.errors import ConfigError, KMUNetError
from pipelines.paths import Paths

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def check_version(root: Path, dataset: str, version: str) -> None:
    """Raise ConfigError unless `version` names data of this data set."""
    if _MD5.fullmatch(version):
        _with_content(root, dataset, version)
    elif not _files_at(root, dataset, version):
        raise ConfigError(
            f"version {version}: {dataset} is not tracked there: no data/raw/{dataset}"
            f".dvc and no data/raw/{dataset}/*.dvc (`dvc add data/raw/{dataset}`)"
        )


def put_version(place: Path, dataset: str, version: str) -> None:
    """Make the .dvc files in the workspace `place` those of the version."""
    if _MD5.fullmatch(version):
        file, content = _with_content(place, dataset, version)
        contents = {file: content}
    else:
        contents = {
            place / name: git(place, "show", f"{version}:{name}")
            for name in _files_at(place, dataset, version)
        }
    for old in tracked(place, dataset):
        old.unlink()
    for file, content in contents.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def _files_at(root: Path, dataset: str, revision: str) -> list[str]:
    """The .dvc files of a data set in a revision. ConfigError: no such revision."""
    try:
        git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except KMUNetError:
        raise ConfigError(
            f"version {revision}: no commit, tag or branch of this repository, and no "
            "MD5 as .dvc files have it (32 hex digits, with .dir for a folder)"
        ) from None
    folder = f"data/raw/{dataset}"
    listed = git(root, "ls-tree", "-r", "-z", "--name-only", revision, "data/raw/")
    names = [name for name in listed.split("\0") if name.endswith(".dvc")]
    whole = [name for name in names if name == f"{folder}.dvc"]
    return whole or [name for name in names if PurePosixPath(name).parent.match(folder)]


def _with_content(root: Path, dataset: str, md5: str) -> tuple[Path, str]:
    """The data set's one .dvc file, and its text for another content."""
    files = tracked(root, dataset)
    if len(files) != 1:
        raise ConfigError(
            f"version {md5}: {dataset} has {len(files)} .dvc files, and an MD5 stands "
            "for one: give a git revision"
        )
    found = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    (out,) = found["outs"]
    if str(out["md5"]).endswith(".dir") != md5.endswith(".dir"):
        kind = "a file" if md5.endswith(".dir") else "a folder: its MD5 ends in .dir"
        raise ConfigError(f"version {md5}: {files[0].relative_to(root)} is of {kind}")
    fresh = {"outs": [{"md5": md5, "hash": "md5", "path": out["path"]}]}
    return files[0], yaml.safe_dump(fresh, sort_keys=False)


def is_whole(root: Path, dataset: str) -> bool:
    """Whether DVC knows the raw data as one output: their content without a look."""
    return Paths(root, dataset).raw.with_name(f"{dataset}.dvc").exists()
