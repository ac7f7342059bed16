"""What one run will do, checked before anything starts."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.pipeline import source_stage
from flows.repository import toplevel
from flows.tracked import tracked
from flows.versions import check_version
from kmunet.config import Params
from kmunet.data.address import is_url, parse
from kmunet.errors import ConfigError, KMUNetError, SourceError
from pipelines.overrides import Value, expand, overridden
from pipelines.paths import Paths

MARGIN = 500 * 2**20  # bytes: checkpoints, the environment of a run, its report


@dataclass(frozen=True)
class Plan:
    """One run: in the checkout `root` itself or, if `private`, in a worktree.

    `remote` has the data that a URL names; flows/downloads.py makes it `raw`.
    """

    root: Path
    datasets: tuple[str, ...]
    overrides: Mapping[str, Value]
    raw: Mapping[str, Path]
    force: bool
    private: bool
    remote: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None  # of the data: see flows/versions.py
    share: bool = False  # results, through the DVC remote: see flows/shared_cache.py


def make_plan(
    datasets: list[str] | None,
    overrides: Mapping[str, Value] | None,
    raw: Mapping[str, str] | None,
    force: bool,
    version: str | None = None,
    share: bool = False,
) -> Plan:
    """Check a request against the checkout around the current directory.

    Raises KMUNetError: an unknown data set, key or version, a value out of range,
    data that is not there, too little space.
    """
    root = toplevel(Path.cwd())
    overrides, raw = overrides or {}, raw or {}
    if "datasets" in overrides:
        raise ConfigError("override datasets: choose data sets with `datasets`")
    _check_project(root)
    overrides = expand(root / "params.yaml", overrides)
    params = overridden(root / "params.yaml", overrides)
    names = _names(params, datasets, raw)
    remote = {name: place for name, place in raw.items() if is_url(place)}
    places = {n: _given(n, place) for n, place in raw.items() if n not in remote}
    for place in remote.values():
        parse(place)
    if version:
        _check_version(root, names, raw, version)
    local = [name for name in names if name not in remote and not version]
    sources = [places.get(name) or _present(root, name) for name in local]
    check_space(root, [place for place in sources if place])
    private = bool(overrides or raw or version or set(names) - set(params.datasets))
    return Plan(
        root, names, overrides, places, force, private, remote, version or None, share
    )


def _check_version(
    root: Path, names: Iterable[str], raw: Mapping[str, str], version: str
) -> None:
    if raw:
        raise ConfigError("version and raw both say which data: leave one out")
    for name in names:
        check_version(root, name, version)


def _check_project(root: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", ".dvc"):
        if not (root / name).exists():
            raise ConfigError(f"{root / name}: missing; run in the project's checkout")
    if not (root / ".venv" / "bin" / "python").exists():
        raise ConfigError(
            f"{root / '.venv'}: no environment, and dvc.yaml's stages run with it; "
            "make it with `make install`"
        )


def _names(
    params: Params, datasets: list[str] | None, raw: Mapping[str, str]
) -> tuple[str, ...]:
    names = tuple(
        dict.fromkeys(datasets if datasets is not None else raw or params.datasets)
    )
    if not names:
        raise ConfigError("datasets: empty; name one, or leave it out for the default")
    for name in names:
        params.size(name)
    for name in raw:
        if name not in names:
            params.source(name)
            raise ConfigError(f"raw: {name} is not among datasets: add it there")
    return names


def _given(name: str, place: str) -> Path:
    path = Path(place).expanduser().resolve()
    if not path.exists():
        raise SourceError(
            f"raw: {name}: {path}: no such file or folder; give the archive as "
            "downloaded, or the folder it was unpacked to"
        )
    return path


def _present(root: Path, name: str) -> Path | None:
    place = Paths(root, name).raw
    if place.exists():
        return place
    if source_stage(root, name) or tracked(root, name):
        return None
    raise SourceError(
        f"{name}: no data in {place.relative_to(root)}/; put the download there, or "
        f"name its place: --raw {name}=PATH_OR_URL"
    )


def check_space(root: Path, sources: Iterable[Path]) -> None:
    """Raise KMUNetError unless there is room for a run on these data."""
    need = MARGIN + 2 * sum(_size(place) for place in sources)
    free = shutil.disk_usage(root).free
    if free < need:
        raise KMUNetError(
            f"{root}: {free / 2**20:.0f} MiB free, this run needs about "
            f"{need / 2**20:.0f} MiB; free some space (`dvc gc --workspace` drops "
            "cached results that no data set uses now)"
        )


def _size(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())
