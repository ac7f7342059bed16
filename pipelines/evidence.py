"""lineage.json: what a model version is made of, read back from its stages' files.

It goes into the MLflow run with the model; `kmunet lineage` shows it. What a workspace
does not have (no git, no dvc.lock) is left out.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from kmunet.config import Params
from kmunet.data.digest import sha256_of
from pipelines.paths import Paths

VERSION = 1
PACKAGES = ("kmunet", "torch", "numpy", "albumentations", "opencv-python-headless",
            "ray", "dvc", "mlflow")  # fmt: skip
RECORDED = ("params.yaml", "dvc.lock")  # whole, in the same run
CODE = ("kmunet", "pipelines", "flows")  # a new file there may be what ran


def lineage(paths: Paths, used: Mapping[str, Any]) -> dict[str, Any]:
    """Model ← parameters, code ← split ← prepared data ← raw files, as plain data.

    used: the parameters that made the model. Call it after the stages before
    `register`: their outputs and dvc.lock are what is read.
    """
    parts = {
        "version": VERSION,
        "dataset": paths.dataset,
        "weights": _weights(paths),
        "params": {"digest": params_digest(used), "values": dict(used)},
        "code": _code(paths.root),
        "split": _split(paths),
        "prepared": _prepared(paths),
        "raw": _read(paths.provenance),
        "stages": locked_stages(paths.root, paths.dataset),
        "packages": _packages(),
    }
    return {name: part for name, part in parts.items() if part}


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """The digests that a version is searched by in MLflow."""
    found = {
        "params_digest": record["params"]["digest"],
        "split_fingerprint": record.get("split", {}).get("fingerprint"),
        "raw_digest": record.get("raw", {}).get("digest"),
    }
    return {name: value for name, value in found.items() if value}


def registered_name(params: Params, dataset: str) -> str:
    """The experiment and the registered model of a data set in MLflow."""
    return f"{params.register_.prefix}-{dataset}"


def used_params(params: Params, dataset: str) -> dict[str, Any]:
    """The parameters that made the model."""
    sections = params.model_dump(mode="json", by_alias=True)
    names = ("prepare", "split", "augment", "model", "train", "evaluate")
    used = {name: sections[name] for name in names}
    chosen = {params.augment: sections["presets"][params.augment]}
    return {**used, "presets": chosen, "source": sections["sources"][dataset]}


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return dotted keys for nested mappings; lists stay whole."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def git_commit(root: Path) -> str:
    """The commit, with -dirty where `lineage` calls the code dirty; empty without."""
    code = _code(root)
    return code["commit"] + "-dirty" * code["dirty"] if code else ""


def params_digest(used: Mapping[str, Any]) -> str:
    """One SHA-256 of parameters, whatever the order of keys."""
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def locked_stages(root: Path, dataset: str) -> dict[str, Any]:
    """Of dvc.lock: stage -> {"deps": {path: md5}, "outs": {path: md5}}.

    The stages of this data set, and the one that makes its raw data.
    """
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    raw = f"data/raw/{dataset}"
    return {
        name: {side: _sums(stage.get(side, ())) for side in ("deps", "outs")}
        for name, stage in lock.get("stages", {}).items()
        if name.endswith(f"@{dataset}") or raw in _sums(stage.get("outs", ()))
    }


def _sums(entries: Any) -> dict[str, str]:
    return {str(entry["path"]): str(entry.get("md5", "")) for entry in entries}


def _weights(paths: Paths) -> dict[str, Any]:
    card = _read(paths.model / "model.json")
    weights = paths.model / "model.safetensors"
    kept = _only(card, "scan_backend", "best")
    return {"sha256": sha256_of(weights), "bytes": weights.stat().st_size, **kept}


def _prepared(paths: Paths) -> dict[str, Any]:
    found = _read(paths.prepared / "index.json")
    return _only(found, "fingerprint", "source", "sizes", "warnings")


def _split(paths: Paths) -> dict[str, Any]:
    found = _read(paths.splits / "split.json")
    return _only(found, "settings", "counts", "fingerprint")


def _code(root: Path) -> dict[str, Any]:
    """The commit, and which files were not as committed; of `CODE` the new ones too.

    `dirty` does not count those of `RECORDED`: DVC itself rewrites dvc.lock.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    if not commit:
        return {}
    names = _git(root, "diff", "--name-only", "-z", "--no-renames", "HEAD")
    names += _git(root, "ls-files", "--others", "--exclude-standard", "-z", *CODE)
    changed = sorted(name for name in names.split("\0") if name)
    dirty = any(name not in RECORDED for name in changed)
    return {"commit": commit, "changed": changed, "dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _only(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
