"""Data that URLs name, downloaded before a run begins: once, and kept for the next."""

from collections.abc import Callable
from dataclasses import replace

from flows import terminal
from flows.plan import Plan, check_space
from kmunet.data.byte_progress import tell
from kmunet.data.remote import localize


def downloaded(plan: Plan, log: Callable[[str], None]) -> Plan:
    """The plan with local paths alone; .kmunet/downloads keeps what came.

    Progress goes to the terminal of a plain call, else to `log`, a line now and then.
    Raises KMUNetError; the next run goes on from there.
    """
    if not plan.remote:
        return plan
    cache = plan.root / ".kmunet" / "downloads"
    say = tell if terminal.is_attached() else log
    raw = dict(plan.raw)
    for name, place in plan.remote.items():
        raw[name] = localize(place, cache, say)
    check_space(plan.root, raw.values())
    return replace(plan, raw=raw, remote={})
