"""Messages to people: a run that failed, a new champion, drift.

To the Apprise URLs (mailto://, slack://, json://, ...) of KMUNET_NOTIFY, separated by
spaces, and of the Secret block `kmunet-notify`. They hold secrets: none is logged. A
message that cannot be sent fails no run.
"""

import logging
import os
from collections.abc import Callable
from typing import Any, cast

from prefect.blocks.system import Secret
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

VARIABLE, BLOCK = "KMUNET_NOTIFY", "kmunet-notify"


def notify(title: str, body: str, warn: Callable[[str], Any]) -> int:
    """Send to every address; how many took it. `warn` hears of those that did not."""
    addresses = _addresses()
    if not addresses:
        return 0
    import apprise  # a second: most runs have nothing to tell

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it may show addresses
    taken = 0
    for number, address in enumerate(addresses, start=1):
        try:
            post = apprise.Apprise()
            sent = bool(post.add(address) and post.notify(body=body, title=title))
        except Exception:  # whatever a service's plug-in does
            sent = False
        taken += sent
        if not sent:
            which = f"address {number} of {len(addresses)} in {VARIABLE} or {BLOCK}"
            warn(f"not sent to {which}: {title}")
    return taken


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook for flows that failed or crashed; of nested ones, the outer."""
    if flow_run.parent_task_run_id is None:
        page = f"\n{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}"
        where = page if PREFECT_UI_URL.value() else ""
        body = f"{state.message or 'no message; see its log'}{where}"
        warn = flow_run_logger(flow_run, flow).warning
        notify(f"kmunet: {flow.name} {flow_run.name}: {state.name}", body, warn)


def _addresses() -> list[str]:
    own = os.environ.get(VARIABLE, "").split()
    return list(dict.fromkeys([*own, *_from_block()]))


def _from_block() -> list[str]:
    if not PREFECT_API_URL.value():
        return []
    try:
        found = cast(Secret[Any], Secret.load(BLOCK)).get()
    except Exception:  # no such block, or a server that is away
        return []
    return found.split() if isinstance(found, str) else [str(item) for item in found]
