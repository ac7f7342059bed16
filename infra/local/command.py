"""How a command of infra ends: exit code, and one message where a user must mend."""

import sys
from collections.abc import Callable

from kmunet.errors import KMUNetError


def exit_code(act: Callable[[], int | None]) -> int:
    """What `act` returns or 0; 2 with the message of a KMUNetError; 130 on Ctrl-C."""
    try:
        return act() or 0
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing that was started is left running", file=sys.stderr)
        return 130
