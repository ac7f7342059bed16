"""Places that are URLs: their parts, and how they are shown, never with secrets."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from kmunet.errors import RemoteError

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CHECKSUM = re.compile(r"#(sha256|md5)=([0-9A-Za-z]*)$")
_DIGITS = {"sha256": 64, "md5": 32}
WEB = ("http", "https")
_LOCAL = ("file", "local", "memory")


def is_url(place: str) -> bool:
    """Whether `place` is a URL, as in s3://bucket/key, and not a path."""
    return bool(_URL.match(place))


def as_url(place: str) -> str:
    """A URL as it is; of a path the one that fsspec reads, which is not quoted."""
    return place if is_url(place) else f"file://{Path(place).absolute()}"


@dataclass(frozen=True)
class Address:
    """One URL: `url` for fsspec (it may hold secrets), `shown` for people and files."""

    url: str = field(repr=False)
    checksum: tuple[str, str] | None = None  # ("sha256" or "md5", hexadecimal)

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def shown(self) -> str:
        """Without user:password@ and, on the web, without what a query says."""
        start, _, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        if self.protocol not in _LOCAL:
            host = host.rpartition("@")[2]
        if self.protocol in WEB:
            path = path.split("#")[0]
            head, query, _ = path.partition("?")
            path = f"{head}?..." if query else head
        return f"{start}://{host}{slash}{path}"

    @property
    def is_folder(self) -> bool:
        return self.url.endswith("/")

    @property
    def name(self) -> str:
        """What the local file or folder is called: the last part. Or RemoteError."""
        path = self.shown.removesuffix("?...").partition("://")[2].rstrip("/")
        last = path.rpartition("/")[2]
        name = unquote(last) if self.protocol in WEB else last
        if unsafe(name) or "/" in name:
            raise RemoteError(f"{self.shown}: its last part cannot name a file here")
        return name

    def beside(self, suffix: str) -> "Address | None":
        """The URL with `suffix` after its name; none where a query follows it."""
        if "?" in self.url or self.is_folder:
            return None
        return replace(self, url=self.url + suffix, checksum=None)


def parse(place: str) -> Address:
    """The address of a URL. Raises RemoteError for one that cannot be used."""
    found = _CHECKSUM.search(place)
    address = Address(place[: found.start()] if found else place)
    if found:
        algorithm, digits = found.groups()
        if not re.fullmatch(rf"[0-9a-fA-F]{{{_DIGITS[algorithm]}}}", digits):
            raise RemoteError(
                f"{address.shown}: #{algorithm}= takes {_DIGITS[algorithm]} "
                "hexadecimal digits"
            )
        address = replace(address, checksum=(algorithm, digits.lower()))
    if "::" in address.url:
        raise RemoteError(f"{address.shown}: chained URLs (::) are not read; name one")
    if address.protocol in ("s3", "s3a") and "@" in address.url.split("/")[2]:
        raise RemoteError(
            f"{address.shown}: keys do not belong into a URL; set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    return address


def unsafe(name: str) -> str:
    """What is wrong with a relative name as a path below a folder; '' if nothing."""
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or re.match(r"^[A-Za-z]:", name):
        return "an absolute or empty path"
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leads outside or nowhere"
    if "\0" in name or any(len(part.encode()) > 240 for part in parts):
        return "no possible file name"
    return ""
