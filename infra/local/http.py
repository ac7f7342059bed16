"""Requests to servers on this machine, past any proxy."""

import base64
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    try:
        with _OPENER.open(url, timeout=5):
            return True
    except OSError:
        return False


def post(url: str, body: Any, headers: Mapping[str, str] = {}) -> Any:
    """POST JSON, return the JSON of the answer, or None. Raises OSError."""
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    with _OPENER.open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def basic(pair: str) -> dict[str, str]:
    """The header of basic authentication by USER:PASSWORD."""
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
