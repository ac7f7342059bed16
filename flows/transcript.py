"""What DVC's output says about one stage: skipped, or why it failed."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.process import plain
from flows.retries import is_away
from kmunet.errors import TRANSIENT
from pipelines.stage import PROMOTED

# From here on, DVC gives advice that is not for a single stage of a flow.
ADVICE = (
    "Generating lock file",
    "Updating lock file",
    "Data and pipelines are",
    "Use `dvc push`",
)
_EXIT = re.compile(r"exited with (\d+)")
_SKIPPED = ("didn't change, skipping", "is cached - skipping run")


@dataclass
class Transcript:
    """Takes lines in, passes the meaningful ones to `log`, remembers the rest."""

    log: Callable[[str], None]
    skipped: bool = False
    over: bool = False
    errors: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    promotions: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Take one line of output in."""
        text = plain(line)
        if text.startswith(("ERROR: ", "error: ")):
            self.over = False  # what comes after a stage may fail too
        self.over = self.over or text.startswith(ADVICE)
        if not text or self.over:
            return
        self.log(text)
        self.skipped = self.skipped or any(mark in text for mark in _SKIPPED)
        if PROMOTED in text:
            self.promotions.append(text)
        if text.startswith("ERROR: "):  # DVC's own
            self.complaints.append(text.removeprefix("ERROR: "))
        elif self.complaints:
            self.complaints.append(text)
        elif self.errors or text.startswith("error: "):  # the stage's
            self.errors.append(text)

    def may_pass(self, code: int) -> bool:
        """Whether what failed may be well later, with nothing changed."""
        said = "\n".join(self.complaints)
        if found := _EXIT.search(said):  # the stage itself knows
            return int(found[1]) == TRANSIENT
        return code == TRANSIENT or is_away(said)

    def message(self, code: int) -> str:
        """Return the stage's own words, else DVC's, else the exit code."""
        lines = self.errors or self.complaints or [f"exit code {code}; see its log"]
        return "\n".join(lines)
