"""One HTTP request whose every status is an answer; no answer is a ServiceError."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from infra.local.http import basic
from kmunet.errors import ServiceError
from pipelines.address import shown

LIMIT = 3.0  # seconds


@dataclass(frozen=True)
class Answer:
    """Status, body, and how far the server's clock is ahead of ours in seconds."""

    status: int
    text: str
    skew: float | None

    def json(self) -> Any:
        """The body. Raises ServiceError where it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            raise ServiceError("answers with something else than JSON") from None


def ask(url: str, headers: Mapping[str, str] = {}, body: Any = None) -> Answer:
    """GET, or POST of JSON. Past any proxy where the server is on this machine.

    user:password@ of the URL are sent as a header, as MLflow's client does.
    """
    data = None if body is None else json.dumps(body).encode()
    everything = {"Content-Type": "application/json", **headers, **_login(url)}
    request = urllib.request.Request(shown(url), data=data, headers=everything)
    here = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    handlers = [urllib.request.ProxyHandler({})] if here else []
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=LIMIT) as got:
            return _answer(got.status, got)
    except urllib.error.HTTPError as refused:
        with refused:
            return _answer(refused.code, refused)
    except (OSError, ValueError, HTTPException) as problem:
        raise ServiceError(f"{shown(url)}: {_why(problem)}") from None


def _login(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    if not parts.username:
        return {}
    return basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}")


def _answer(status: int, got: Any) -> Answer:
    try:
        ahead = parsedate_to_datetime(got.headers["Date"]).timestamp() - time.time()
    except (TypeError, ValueError):
        return Answer(status, got.read(2**20).decode(errors="replace"), None)
    return Answer(status, got.read(2**20).decode(errors="replace"), ahead)


def _why(problem: BaseException) -> str:
    reason = getattr(problem, "reason", problem)
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(reason, TimeoutError):
        return f"no answer within {LIMIT:.0f} s"
    if type(reason).__name__ == "gaierror":
        return "unknown host name"
    return f"no connection ({str(reason) or type(reason).__name__})"
