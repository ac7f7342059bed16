"""Prepared data by the hash of its content, from a DVC remote, once per node.

A remote holds a file under files/md5/<2 digits>/<30 digits>, and a folder as such a
file ending in .dir: a JSON list of {md5, relpath}. Neither DVC nor git is needed.
"""

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from kmunet.data.address import Address, as_url, unsafe
from kmunet.data.archive import MAX_FILES
from kmunet.data.atomic import require_space
from kmunet.data.byte_progress import byte_progress, tell
from kmunet.data.checksums import Expected
from kmunet.data.connect import THREADS, Found, Remote
from kmunet.data.download import download
from kmunet.data.locked import locked
from kmunet.data.network import FIRST_PATIENCE
from kmunet.errors import MissingError, RemoteError

_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")


def fetch_content(
    remote: str,
    md5: str,
    cache: Path,
    options: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = tell,
) -> Path:
    """The folder (or file) `cache`/<md5> with the content of that hash.

    `remote`: URL or folder of a DVC remote; `md5`: as in dvc.lock, a folder's ends in
    .dir; `options` go to fsspec (endpoint_url, profile, ...). Every file's MD5 is
    checked. Processes of a node take turns: the first downloads, the others find it.
    Raises RemoteError, naming what is not there, and DataError without space.
    """
    if not _HASH.fullmatch(md5):
        raise RemoteError(f"{remote}: '{md5}' is no MD5 of a file or a folder (.dir)")
    digest = md5.removesuffix(".dir")
    target = cache / digest
    if target.exists():
        return target
    address = Address(as_url(remote).rstrip("/") + "/")
    wait = f"{address.shown}: another process of this node downloads {digest}"
    with locked(cache / f".{digest}.lock", lambda: say(wait)):
        if not target.exists():
            store = _Store(Remote(address, say, options, FIRST_PATIENCE))
            _bring(store, md5, target)
    return target


class _Store:
    """A DVC remote: objects by hash, each checked when it has come."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def address(self, md5: str) -> Address:
        return Address(f"{self.remote.address.url}files/md5/{md5[:2]}/{md5[2:]}")

    def find(self, md5: str) -> Found:
        try:
            return self.remote.info(self.address(md5))
        except MissingError as error:
            raise MissingError(
                f"{self.address(md5).shown}: the content is not in the DVC remote; "
                "run `dvc push` where it was made"
            ) from error

    def get(
        self, md5: str, found: Found, target: Path, advance: Callable[[int], None]
    ) -> None:
        wanted = Expected("md5", md5.removesuffix(".dir"), "its name")
        address = self.address(md5)
        download(self.remote, address, found, target, lambda _: wanted, advance)


def _bring(store: _Store, md5: str, target: Path) -> None:
    if not md5.endswith(".dir"):
        only = store.find(md5)
        with byte_progress(target.name, only.size, 0, store.remote.say) as advance:
            store.get(md5, only, target, advance)
        return
    place = target.with_name(f"{target.name}.part")
    listing = target.with_name(f"{target.name}.dir")
    if not listing.exists():
        store.get(md5, store.find(md5), listing, lambda _: None)
    files = _files(listing, store.address(md5).shown)
    with ThreadPoolExecutor(THREADS) as pool:
        # What lies under its own name there was checked before a cut.
        left = [name for name in files if not (place / name).exists()]
        hashes = [files[name] for name in left]
        found = dict(zip(left, pool.map(store.find, hashes), strict=True))
    size = sum(one.size or 0 for one in found.values())
    require_space(target, size, "free some, then run the same again")
    _bring_all(store, files, found, place, size)
    place.rename(target)
    listing.unlink()


def _bring_all(
    store: _Store,
    files: Mapping[str, str],
    found: Mapping[str, Found],
    place: Path,
    size: int,
) -> None:
    place.mkdir(parents=True, exist_ok=True)
    label = f"{place.stem[:8]} ({len(found)} files)"
    pool = ThreadPoolExecutor(THREADS)
    try:
        with byte_progress(label, size, 0, store.remote.say) as advance:
            futures = [
                pool.submit(store.get, files[name], one, place / name, advance)
                for name, one in found.items()
            ]
            for future in futures:
                future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _files(listing: Path, shown: str) -> dict[str, str]:
    """MD5 by relative name, of a list that came with the right MD5 itself."""
    items = json.loads(listing.read_text(encoding="utf-8"))
    files = {str(item["relpath"]): str(item["md5"]) for item in items}
    if len(items) > MAX_FILES:
        raise RemoteError(f"{shown}: more than {MAX_FILES} files")
    folders = {str(up) for name in files for up in PurePosixPath(name).parents}
    for name, md5 in files.items():
        if unsafe(name) or name in folders or not _HASH.fullmatch(md5):
            raise RemoteError(f"{shown}: refused: it lists '{name}' with hash '{md5}'")
    return files
