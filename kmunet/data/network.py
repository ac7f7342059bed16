"""What went wrong on the network: what may pass by waiting, and what to tell the user.

The libraries below fsspec (botocore, aiohttp) have exceptions of their own; they are
told by class name and status, so that none of them need be there.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from kmunet.errors import MissingError, RemoteError, UnreachableError

Result = TypeVar("Result")
PATIENCE = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before each new try
FIRST_PATIENCE = (1.0, 2.0, 4.0)  # before anything was heard: a wrong name is likely
_CUT = {"ConnectionError", "TimeoutError", "gaierror", "HTTPClientError",
        "ClientConnectionError", "ClientPayloadError", "IncompleteReadError",
        "IncompleteRead", "FSTimeoutError"}  # fmt: skip
_LIBRARIES = {"aiobotocore", "aiohttp", "boto3", "botocore", "requests", "urllib3"}
_WORDS = {
    "gaierror": "unknown host name",
    "ConnectionRefusedError": "connection refused",
    "TimeoutError": "no answer in time",
    "ClientPayloadError": "the connection was cut",
    "ServerDisconnectedError": "the connection was cut",
    "ConnectionResetError": "the connection was cut",
    "SSLError": "TLS failed",
}
_KEYS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public "
    """bucket FSSPEC_S3='{"anon": true}'"""
)
_ELSEWHERE = "a server that is not Amazon's is named by AWS_ENDPOINT_URL"


def is_of_network(error: BaseException) -> bool:
    """Whether it was raised by one of the libraries that speak S3 or HTTP."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: a cut connection, or a 5xx."""
    if _is_a(error, "SSLCertVerificationError", "CertificateError"):
        return False
    status = status_of(error)
    return status >= 500 if status else _is_a(error, *_CUT)


def lacks_credentials(error: BaseException) -> bool:
    """Whether no key was found anywhere (and so none was refused)."""
    return _is_a(error, "NoCredentialsError")


def status_of(error: BaseException) -> int:
    """The HTTP status behind an error; 0 where there was no answer."""
    for item in _chain(error):
        answer = getattr(item, "response", None)
        if isinstance(answer, dict):
            return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if isinstance(status := getattr(answer, "status_code", None), int):  # requests
            return status
        if isinstance(status := getattr(item, "status", None), int):
            return status
    return 0


def explain(
    error: BaseException, shown: str, *, anonymous: bool = False
) -> RemoteError:
    """The error as one line for the user: the URL, what is wrong, what to do."""
    s3, status = shown.startswith("s3"), status_of(error)
    where = f"; {_ELSEWHERE}" if s3 else ""
    if is_transient(error):
        no = f"no connection: {_why(error)}"
        why = f"the server answers {status}" if status else no
        return UnreachableError(
            f"{shown}: {why}; check network and name{where}; then run the same again"
        )
    if _is_a(error, "SSLCertVerificationError", "CertificateError"):
        why = "the server's certificate is not trusted"
        remedy = "name its authority in AWS_CA_BUNDLE (s3) or SSL_CERT_FILE"
    elif lacks_credentials(error) or (anonymous and s3 and status in (400, 401, 403)):
        why = "no credentials found" + (", and it is not public" if anonymous else "")
        remedy = _KEYS + where
    elif status in (401, 403) or (not status and _is_a(error, "PermissionError")):
        why = f"access denied ({status})" if status else "access denied"
        remedy = f"or there is no such key: {_KEYS}" if s3 else "may you read it?"
    elif status == 404 or (not status and _is_a(error, "FileNotFoundError")):
        why = f"no such {'bucket or key' if s3 else 'file or folder'} (404)"
        return MissingError(f"{shown}: {why}; check the name{where}")
    else:
        return RemoteError(f"{shown}: {_why(error)}")
    return RemoteError(f"{shown}: {why}; {remedy}")


def retried(
    call: Callable[[], Result],
    shown: str,
    say: Callable[[str], None],
    patience: tuple[float, ...],
) -> Result:
    """`call()`, again after each pause while the failure is one that may pass."""
    pauses = iter(patience)
    while True:
        try:
            return call()
        except Exception as error:
            if not pause(error, pauses, shown, say):
                raise


def pause(
    error: Exception, pauses: Iterator[float], shown: str, say: Callable[[str], None]
) -> bool:
    """Wait before the next try; False where waiting does not help (any more)."""
    seconds = next(pauses, None) if is_transient(error) else None
    if seconds is None:
        return False
    status = status_of(error)
    why = f"the server answers {status}" if status else _why(error)
    say(f"{shown}: {why}; again in {seconds:g} s")
    time.sleep(seconds)
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    item: BaseException | None = error
    while item is not None:
        yield item
        item = item.__cause__ or (
            None if item.__suppress_context__ else item.__context__
        )


def _is_a(error: BaseException, *names: str) -> bool:
    return any(
        kind.__name__ in names for item in _chain(error) for kind in type(item).__mro__
    )


def _why(error: BaseException) -> str:
    """A reason in words, or the deepest message without what may be secret in it."""
    for kind, words in _WORDS.items():
        if _is_a(error, kind):
            return words
    deepest = [item for item in _chain(error) if str(item)][-1:] or [error]
    text = (str(deepest[0]).splitlines() or [type(error).__name__])[0]
    text = re.sub(r"://[^/\s@]*@", "://", text)
    return re.sub(r"\?[^\s'\"]*", "?...", text)[:200]
