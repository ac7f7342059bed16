"""One place that fsspec reaches: what is there, and its bytes from an offset on.

Settings are those of fsspec's users: AWS_* variables and profiles (read by s3fs),
FSSPEC_S3_* variables and ~/.config/fsspec (read by fsspec).
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from kmunet.data.address import WEB, Address
from kmunet.data.network import explain, lacks_credentials, retried
from kmunet.data.web_folder import web_files
from kmunet.errors import RemoteError, UnreachableError

CHUNK = 8 * 2**20  # bytes in memory at a time
THREADS = 8
Result = TypeVar("Result")


@dataclass(frozen=True)
class Found:
    """What a server says of a file: `size` in bytes (None: it does not say)."""

    size: int | None
    tag: str  # etag and version, or the time of its last change
    folder: bool = False


class Restart(Exception):  # noqa: N818
    """The server sends the file from its first byte only."""


class Remote:
    """A connection to the file system of an address, for it and what lies below.

    Without any credentials, S3 is asked anonymously, and `say` is told. All methods
    raise RemoteError, but `read`, whose errors are the libraries' own.
    """

    def __init__(
        self,
        address: Address,
        say: Callable[[str], None],
        options: Mapping[str, Any] | None = None,
        patience: tuple[float, ...] = (),
    ) -> None:
        self.address, self.say = address, say
        self._options, self._patience = dict(options or {}), patience
        self._fs = _connect(address, self._options)
        self.anonymous = bool(getattr(self._fs, "anon", False))

    @property
    def is_s3(self) -> bool:
        return self.address.protocol in ("s3", "s3a")

    def info(self, address: Address) -> Found:
        """What is at the address."""
        return _found(self._ask(address, lambda: self._fs.info(address.url)))

    def names(self, address: Address) -> dict[str, tuple[str, Found]]:
        """The files below a folder, by relative name: URL and what is known of it."""
        if address.protocol in WEB:
            urls = web_files(address, self._links)
            with ThreadPoolExecutor(THREADS) as pool:
                found = pool.map(lambda url: self.info(Address(url)), urls.values())
                return dict(
                    zip(urls, zip(urls.values(), found, strict=True), strict=True)
                )
        listed = self._ask(address, lambda: self._fs.find(address.url, detail=True))
        root = self._fs._strip_protocol(address.url).rstrip("/") + "/"
        return {
            path.removeprefix(root): (f"{address.protocol}://{path}", _found(info))
            for path, info in sorted(listed.items())
            if not path.endswith("/")  # a folder's own entry
        }

    def _links(self, url: str) -> list[str]:
        listed = self._ask(Address(url), lambda: self._fs.ls(url, detail=False))
        return [str(link) for link in listed]

    def exists(self, address: Address) -> bool:
        """Whether a small file beside another is there and may be read.

        Raises UnreachableError where nobody can tell now.
        """
        try:
            found = self.info(address)
        except UnreachableError:
            raise
        except RemoteError:
            return False
        return not found.folder and found.size != 0

    def small(self, address: Address, limit: int = 2**20) -> bytes:
        """The first `limit` bytes of a file."""
        found: bytes = self._ask(
            address, lambda: self._fs.cat_file(address.url, start=0, end=limit)
        )
        return found[:limit]

    def is_encrypted(self, address: Address) -> bool:
        """Whether S3 keeps the file under a key of its own: its ETag is no MD5 then."""
        bucket, key, _ = self._fs.split_path(address.url)
        head = self._ask(
            address, lambda: self._fs.call_s3("head_object", Bucket=bucket, Key=key)
        )
        kind = str(head.get("ServerSideEncryption", ""))
        return kind.startswith("aws:kms") or "SSECustomerAlgorithm" in head

    def read(self, address: Address, start: int, found: Found) -> Iterator[bytes]:
        """The bytes from `start` on. Raises Restart, and what fsspec raises."""
        if address.protocol in WEB:
            if not start or start != found.size:  # asked for nothing, a server says 416
                yield from self._stream(address, start, found)
            return
        while start < (found.size or 0):
            end = min(start + CHUNK, found.size or 0)
            chunk: bytes = self._fs.cat_file(address.url, start=start, end=end)
            if len(chunk) != end - start:
                raise ConnectionError(f"{len(chunk)} bytes instead of {end - start}")
            yield chunk
            start = end

    def _stream(self, address: Address, start: int, found: Found) -> Iterator[bytes]:
        """One request for all of it: not every web server can send a part."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._fs.open(address.url, block_size=0, headers=headers) as stream:
            if start and stream.r.status != 206:
                raise Restart
            done = start
            while chunk := stream.read(2**20):
                done += len(chunk)
                yield chunk
        if found.size is not None and done < found.size:
            raise ConnectionError(f"ended after {done} of {found.size} bytes")

    def _ask(self, address: Address, call: Callable[[], Result]) -> Result:
        try:
            return retried(call, address.shown, self.say, self._patience)
        except Exception as error:
            if not (self.is_s3 and not self.anonymous and lacks_credentials(error)):
                raise self.explained(error, address) from None
        self.say(f"{address.shown}: no credentials found; trying without (anonymous)")
        self._fs = _connect(self.address, self._options | {"anon": True})
        self.anonymous = True
        return self._ask(address, call)

    def explained(self, error: BaseException, address: Address) -> RemoteError:
        """The error for the user."""
        return explain(error, address.shown, anonymous=self.anonymous)


def _connect(address: Address, options: Mapping[str, Any]) -> Any:
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(address.protocol)
    except ImportError as error:
        raise RemoteError(f"{address.shown}: {error}") from None
    except ValueError:
        raise RemoteError(
            f"{address.shown}: unknown protocol '{address.protocol}://'; fsspec knows "
            "s3, https, file and others"
        ) from None
    settings = {"use_listings_cache": False, **_defaults(address.protocol), **options}
    try:
        system = kind(skip_instance_cache=True, **settings)
    except Exception as error:
        raise explain(error, address.shown) from None
    if address.protocol in ("s3", "s3a"):
        system.retries = 1  # we try again ourselves, and say so
    return system


def _defaults(protocol: str) -> dict[str, Any]:
    """Time-outs, tries and proxies; what the user has set in fsspec's way stands."""
    from fsspec.config import conf

    if protocol in ("s3", "s3a"):
        own = dict(conf.get("s3", {}))
        asked = own.get("config_kwargs", {})
        tries = {
            "retries": {"max_attempts": 0},
            # Some servers send the whole file's CRC with a part; we check the whole.
            "response_checksum_validation": "when_required",
        } | dict(asked)
        # FSSPEC_S3_ANON=false is text, and any text counts as true there.
        anon = str(own.get("anon", "")).lower() in ("1", "true", "yes")
        return {"config_kwargs": tries, "anon": anon}
    if protocol in WEB:
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
        asked = dict(conf.get(protocol, {}).get("client_kwargs", {}))
        return {"client_kwargs": {"timeout": limits, "trust_env": True} | asked}
    return {}


def _found(info: Mapping[str, Any]) -> Found:
    """What a server's answer says, whatever its protocol."""
    keys = ("ETag", "etag", "VersionId", "md5", "Last-Modified", "LastModified",
            "mtime", "created")  # fmt: skip
    tags = [str(info[key]).strip('"') for key in keys if info.get(key)]
    tag = " ".join(tags[:2]) if info.get("VersionId") else "".join(tags[:1])
    return Found(info.get("size"), tag, info.get("type") == "directory")
