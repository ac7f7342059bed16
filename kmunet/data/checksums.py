"""Is a download what its owner published? Checksums, and where they come from.

In order: `#sha256=...` or `#md5=...` in the URL, a file `<url>.sha256` or `<url>.md5`
beside it, S3's ETag where it is an MD5 (one part, no key of its own), else size alone.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kmunet.data.address import Address
from kmunet.data.connect import Found, Remote
from kmunet.errors import RemoteError

_BLOCK = 2**20
SIZE_ALONE = "size alone, no checksum was found"
NOTHING = "nothing at all: the server says neither size nor checksum"


@dataclass(frozen=True)
class Expected:
    """A checksum that the bytes must have, and who says so."""

    algorithm: str
    digest: str
    origin: str


def expected(remote: Remote, address: Address, found: Found) -> Expected | None:
    """The best checksum that there is for the file. Raises RemoteError."""
    if address.checksum:
        return Expected(*address.checksum, "the URL")
    for algorithm in ("sha256", "md5"):
        beside = address.beside(f".{algorithm}")
        if beside and remote.exists(beside):
            text = remote.small(beside).decode("utf-8", "replace")
            if digest := listed(text, algorithm, address.name):
                return Expected(algorithm, digest, beside.name)
    return by_etag(remote, found)


def by_etag(remote: Remote, found: Found) -> Expected | None:
    """S3's own, where it looks like an MD5."""
    etag = found.tag.split(" ")[0]
    if remote.is_s3 and re.fullmatch(r"[0-9a-f]{32}", etag):
        return Expected("md5", etag, "S3's ETag")
    return None


def listed(text: str, algorithm: str, name: str) -> str | None:
    """The digest of `name` in what sha256sum, md5sum or `shasum --tag` write."""
    digits = {"sha256": 64, "md5": 32}[algorithm]
    pattern = re.compile(rf"(?<![0-9a-fA-F])[0-9a-fA-F]{{{digits}}}(?![0-9a-fA-F])")
    found = [
        (match[0].lower(), _named(line, match))
        for line in text.splitlines()
        if (match := pattern.search(line))
    ]
    for wanted in (name, ""):  # its own line, or a digest alone
        for digest, own in found:
            if own == wanted:
                return digest
    # One line in a file of this one's own: it was renamed since.
    return found[0][0] if len(found) == 1 else None


def _named(line: str, digest: re.Match[str]) -> str:
    """The file, without folders, that a line is of; "" if it does not say."""
    tagged = re.match(r"\s*\w+ ?\((.*)\) ?=", line)
    name = tagged[1] if tagged else line[digest.end() :].strip().removeprefix("*")
    return PurePosixPath(name.replace("\\", "/")).name


def verify(
    file: Path, remote: Remote, address: Address, wanted: Expected | None
) -> tuple[str, str]:
    """SHA-256 of the file and how it was checked. Raises RemoteError if it is wrong."""
    if wanted is None:
        return digests(file)["sha256"], SIZE_ALONE
    found = digests(file, wanted.algorithm)
    if found[wanted.algorithm] == wanted.digest:
        return found["sha256"], f"{wanted.algorithm} of {wanted.origin}"
    if wanted.origin == "S3's ETag" and remote.is_encrypted(address):
        return found["sha256"], SIZE_ALONE
    raise RemoteError(
        f"{address.shown}: wrong {wanted.algorithm}: expected {wanted.digest} (from "
        f"{wanted.origin}), got {found[wanted.algorithm]}; the download was deleted: "
        "get it again, or ask its owner for the right checksum"
    )


def digests(file: Path, *more: str) -> dict[str, str]:
    """Hexadecimal digests of a file, SHA-256 and others; memory does not grow."""
    hashes = {
        name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *more}
    }
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}
