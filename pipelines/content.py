"""Outputs of stages for workers that have no workspace: by path, or by content.

`send(root, "data/prepared/busi")` on the driver says both; `receive` on a worker takes
the folder where it lies, or the content from the DVC remote, once per node.
"""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kmunet.data.address import as_url
from kmunet.data.content import fetch_content
from kmunet.data.remote import default_cache
from kmunet.errors import DataError


class Content(NamedTuple):
    """What `fetch_content` needs. Keys are not in it: a worker has its own."""

    remote: str  # URL of the DVC remote
    md5: str  # ends in .dir for a folder
    options: dict[str, Any]  # of fsspec: endpoint_url, profile, ...


def address(root: Path, out: str) -> Content | None:
    """The content of `out` as dvc.lock or a .dvc file has it, in the default remote.

    None where the project has no default remote, or DVC does not know `out`.
    """
    md5 = _md5(root, out)
    if md5 is None:
        return None
    # DVC reads its own configuration: four files, one upon the other.
    from dvc.config import Config

    config: Any = Config(str(root / ".dvc"))
    remote = config["remote"].get(config["core"].get("remote", ""))
    if remote is None:
        return None
    url = as_url(str(remote["url"]))
    return Content(url, md5, _options(remote) if url.startswith("s3") else {})


def send(root: Path, out: str) -> dict[str, Any]:
    """`out` as plain values that travel to a worker."""
    content = address(root, out)
    found = content._asdict() if content else None
    return {"folder": str((root / out).resolve()), "content": found}


def receive(sent: Mapping[str, Any]) -> Path:
    """The folder on this node. DataError where it is neither here nor in a remote."""
    folder = Path(sent["folder"])
    if folder.is_dir():
        return folder
    if sent["content"] is None:
        raise DataError(
            f"{folder}: not on node {platform.node()}; share that folder between the "
            "nodes, or set a DVC remote (`dvc remote add -d`) and `dvc push`"
        )
    content = Content(**sent["content"])
    cache = default_cache() / "content"
    return fetch_content(content.remote, content.md5, cache, content.options)


def _options(remote: dict[str, Any]) -> dict[str, Any]:
    """DVC's names for the settings of S3, as s3fs calls them."""
    options: dict[str, Any] = {}
    for theirs, ours in (("endpointurl", "endpoint_url"), ("profile", "profile")):
        if remote.get(theirs):
            options[ours] = str(remote[theirs])
    if remote.get("region"):
        options["client_kwargs"] = {"region_name": str(remote["region"])}
    if remote.get("allow_anonymous_login"):
        options["anon"] = True
    return options


def _md5(root: Path, out: str) -> str | None:
    for path, item in _outs(root, out):
        if path == out and item.get("md5"):
            return str(item["md5"])
    return None


def _outs(root: Path, out: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All that DVC has recorded: outputs of stages, then the .dvc file beside `out`."""
    for stage in _read(root / "dvc.lock").get("stages", {}).values():
        for item in stage.get("outs", []):
            yield item["path"], item
    beside = root / f"{out}.dvc"
    for item in _read(beside).get("outs", []):
        yield (Path(out).parent / item["path"]).as_posix(), item


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
