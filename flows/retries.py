"""What is tried again, and when: a server or network that is away, nothing else.

Bad data or a bad key would fail again. A stage says which it was by its exit code
(kmunet/errors.py), which DVC passes on in its last line; DVC's own words are searched.
"""

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kmunet.errors import KMUNetError

Result = TypeVar("Result")
DELAYS = [15.0, 60.0, 300.0]  # seconds before each new try
JITTER = 0.3  # of a delay: those who failed together do not come back together
UNAVAILABLE = "Unavailable"  # the name of a state that is tried again
_AWAY = re.compile(
    r"could not connect|connect(ion)? ?(was )?(refused|reset|error|timed ?out|closed)|"
    r"EndpointConnectionError|timed? ?out|temporar(y|ily) (failure|unavailable)|"
    r"no route to host|network is unreachable|name or service not known|"
    r"\b50[0234]\b|slow ?down|failed to connect",
    re.IGNORECASE,
)


def is_away(text: str) -> bool:
    """Whether another program's message speaks of a server that is not there now."""
    return bool(_AWAY.search(text))


def may_pass(task: Any, run: Any, state: Any) -> bool:
    """Prefect's condition for another try of a task."""
    return bool(state.name == UNAVAILABLE)


def patiently(action: Callable[[], Result], log: Callable[[str], None]) -> Result:
    """`action()`, again after each of DELAYS while its error may pass by waiting."""
    for delay in DELAYS:
        try:
            return action()
        except KMUNetError as error:
            if not error.transient:
                raise
            log(f"{error}; again in {delay:g} s")
            time.sleep(delay)
    return action()
