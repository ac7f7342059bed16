"""A check, what it finds, and how many run side by side, each within its time."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pipelines.address import shown

OK, WARNING, ERROR = "ok", "warning", "error"
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|API_KEY|ACCESS_KEY")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, and how to mend it."""

    name: str
    level: str  # ok, warning or error
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """Looks at one thing and returns what it finds; writes nothing."""

    name: str
    look: Callable[[], Iterable[Finding]]
    limit: float = 6.0  # seconds


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, OK, text)


def warning(name: str, text: str, remedy: str) -> Finding:
    """Works, though not as one may expect."""
    return Finding(name, WARNING, text, remedy)


def error(name: str, text: str, remedy: str) -> Finding:
    """Will not work."""
    return Finding(name, ERROR, text, remedy)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run the checks side by side; their findings in the order of the checks.

    One that does not end within its limit is an error; its thread dies with us.
    """
    found: dict[str, list[Finding]] = {}
    threads = []
    for check in checks:
        thread = threading.Thread(target=_look, args=(check, found), daemon=True)
        thread.start()
        threads.append(thread)
    begun = time.monotonic()
    for check, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, begun + check.limit - time.monotonic()))
    late = {check.name: [_late(check)] for check in checks}
    return [without_secrets(f) for c in checks for f in (late | dict(found))[c.name]]


def without_secrets(finding: Finding) -> Finding:
    """The same without passwords in URLs and without values of secret variables."""
    return replace(finding, text=_masked(finding.text), remedy=_masked(finding.remedy))


def _look(check: Check, found: dict[str, list[Finding]]) -> None:
    try:
        findings = list(check.look())
    except Exception as problem:  # a check that fails is a finding, not the end
        what = str(problem).partition("\n")[0]
        text = f"{type(problem).__name__}: {what}"
        findings = [error(check.name, text, "the check itself failed: look there")]
    found[check.name] = findings


def _late(check: Check) -> Finding:
    text = f"no answer within {check.limit:.0f} s"
    return error(check.name, text, "is the machine or the network very busy? try again")


def _masked(text: str) -> str:
    text = shown(text)
    for name, value in os.environ.items():
        if len(value) > 5 and _SECRET.search(name) and not name.endswith("_PATH"):
            text = text.replace(value, "***")
    return text
