"""Settings of a plain call: without a server, Prefect starts one for the run's time.

Its records lie in .kmunet/prefect, unless the user has set a home or a server.
"""

import os
import sys
from pathlib import Path

from flows.repository import toplevel
from kmunet.errors import KMUNetError
from pipelines import profile

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # stages speak themselves
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


def embed() -> None:
    """Set what is not set already; call before prefect is imported.

    The profile first: it may name a server. A profile that cannot be read ends it all.
    """
    try:
        profile.apply()
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not {"PREFECT_HOME", "PREFECT_API_URL"} & os.environ.keys():
        home = _root() / ".kmunet" / "prefect"
        home.mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _root() -> Path:
    try:
        return toplevel(Path.cwd())
    except KMUNetError:  # the run will say so
        return Path.cwd()
